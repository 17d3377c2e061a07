namespace Platter.Nbd.Client;

/// <summary>An export that a server lists.</summary>
/// <param name="Name">Its name, as the server sent it: text of a stranger, not safe to print as it is.</param>
/// <param name="Description">The server's description for people; empty if there is none. Likewise.</param>
public sealed record NbdListedExport(string Name, string Description);
