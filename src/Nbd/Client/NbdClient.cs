using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Nbd.Client;

/// <summary>Questions to a server by somebody who does not want to use an export.</summary>
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
            options.ResolveTls(address),
            static async (handshake, token) =>
            {
                var exports = await handshake.ListAsync(token).ConfigureAwait(false);
                await handshake.AbortAsync(token).ConfigureAwait(false);
                handshake.Wire.Dispose();
                return exports;
            },
            run: null,
            cancellationToken);

    /// <summary>Asks the server that options of driver <c>nbd</c> name for its exports.</summary>
    /// <exception cref="BlockException">As with the other overload; <see cref="BlockErrorKind.InvalidRequest"/>: the options.</exception>
    public static ValueTask<IReadOnlyList<NbdListedExport>> ListExportsAsync(NodeOptions options, CancellationToken cancellationToken = default) =>
        ListExportsAsync(NbdAddress.FromOptions(options), NbdClientOptions.FromOptions(options), cancellationToken);

    /// <summary>Asks what a server says about the export of an address.</summary>
    /// <exception cref="BlockException">As when opening an <see cref="NbdStorage"/>.</exception>
    public static ValueTask<NbdServerInfo> InspectAsync(NbdAddress address, NbdClientOptions options, CancellationToken cancellationToken = default) =>
        InspectAsync(address, address.ExportName, options, cancellationToken);

    /// <summary>Asks what a server says about all exports that it lists.</summary>
    /// <exception cref="BlockException">As with <see cref="ListExportsAsync(NbdAddress, CancellationToken)"/>.</exception>
    public static ValueTask<NbdServerInfo> InspectAllAsync(NbdAddress address, NbdClientOptions options, CancellationToken cancellationToken = default) =>
        InspectAsync(address, null, options, cancellationToken);

    private static ValueTask<NbdServerInfo> InspectAsync(NbdAddress address, string? exportName, NbdClientOptions options, CancellationToken cancellationToken)
    {
        options = options.ResolveTls(address);
        return NbdConnector.OpenAsync(
            address,
            options,
            async (handshake, token) =>
            {
                var info = await handshake.InspectAsync(exportName, options.BestStyle, token).ConfigureAwait(false);
                handshake.Wire.Dispose();
                return info with { IsEncrypted = options.Tls is not null };
            },
            run: null,
            cancellationToken);
    }
}
