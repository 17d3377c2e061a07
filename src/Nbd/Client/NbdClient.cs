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
        ListExportsAsync(address, new NbdClientOptions(), cancellationToken);

    /// <summary>Asks a server for its exports.</summary>
    /// <exception cref="BlockException">As with the other overload.</exception>
    public static ValueTask<IReadOnlyList<NbdListedExport>> ListExportsAsync(
        NbdAddress address, NbdClientOptions options, CancellationToken cancellationToken = default) =>
        NbdConnector.OpenAsync(
            address,
            options,
            static async (handshake, token) =>
            {
                var exports = await handshake.ListAsync(token).ConfigureAwait(false);
                await handshake.AbortAsync(token).ConfigureAwait(false);
                handshake.Wire.Dispose();
                return exports;
            },
            cancellationToken);

    /// <summary>Asks the server that options of driver <c>nbd</c> name for its exports.</summary>
    /// <exception cref="BlockException">As with the other overload; <see cref="BlockErrorKind.InvalidRequest"/>: the options.</exception>
    public static ValueTask<IReadOnlyList<NbdListedExport>> ListExportsAsync(NodeOptions options, CancellationToken cancellationToken = default) =>
        ListExportsAsync(NbdAddress.FromOptions(options), NbdClientOptions.FromOptions(options), cancellationToken);
}
