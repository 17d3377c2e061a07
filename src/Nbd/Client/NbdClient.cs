using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Nbd.Client;

/// <summary>Questions to a server that need no export.</summary>
public static class NbdClient
{
    /// <summary>Asks a server for its exports.</summary>
    /// <param name="address">The server; its export name does not matter.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.AccessDenied"/> or <see cref="BlockErrorKind.Unsupported"/>: it does not list them;
    /// <see cref="BlockErrorKind.LimitExceeded"/>: it lists too many; otherwise as when opening an <see cref="NbdStorage"/>.</exception>
    public static ValueTask<IReadOnlyList<NbdListedExport>> ListExportsAsync(NbdAddress address, CancellationToken cancellationToken = default) =>
        NbdConnection.ListAsync(address, NbdTimeouts.Default, cancellationToken);

    /// <summary>Asks the server that options of driver <c>nbd</c> name for its exports.</summary>
    /// <exception cref="BlockException">As with the other overload; <see cref="BlockErrorKind.InvalidRequest"/>: the options.</exception>
    public static ValueTask<IReadOnlyList<NbdListedExport>> ListExportsAsync(NodeOptions options, CancellationToken cancellationToken = default) =>
        NbdConnection.ListAsync(NbdAddress.FromOptions(options), NbdTimeouts.FromOptions(options), cancellationToken);
}
