using Platter.Core.Graph;

namespace Platter.Nbd.Server;

/// <summary>A disk that an <see cref="NbdServer"/> offers, read-only.</summary>
/// <param name="Node">The disk. The server reads it from many threads and never disposes it: close it after the server has stopped.</param>
/// <param name="Description">Words for people, shown to clients that ask; at most 4096 bytes of UTF-8 without NUL.</param>
public sealed record NbdExport(BlockNode Node, string? Description = null);
