using Platter.Core.Errors;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

// Looking at exports without using them.
internal sealed partial class NbdHandshake
{
    private const int MaxContexts = 4096;

    /// <summary>Asks what a server says about one export, or about all that it lists.</summary>
    /// <param name="exportName">The export; null for all.</param>
    /// <param name="best">The style of headers to ask for first.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public async ValueTask<NbdServerInfo> InspectAsync(string? exportName, NbdHeaderStyle best, CancellationToken cancellationToken)
    {
        var style = _fixed ? await AgreeOnStyleAsync(best, cancellationToken).ConfigureAwait(false) : NbdHeaderStyle.Simple;
        IReadOnlyList<NbdListedExport> listed = exportName is null ? await ListAsync(cancellationToken).ConfigureAwait(false) : [new(exportName, string.Empty)];
        var exports = new List<NbdExportDescription>();
        foreach (var export in listed)
        {
            exports.Add(await InspectAsync(export, style, exportName is not null, cancellationToken).ConfigureAwait(false));
        }

        if (MayAbort)
        {
            await AbortAsync(cancellationToken).ConfigureAwait(false);
        }

        return new(exports) { HasFixedHandshake = _fixed, HasStructuredReplies = style != NbdHeaderStyle.Simple, HasExtendedHeaders = style == NbdHeaderStyle.Extended };
    }

    private async ValueTask<NbdExportDescription> InspectAsync(NbdListedExport export, NbdHeaderStyle style, bool isLast, CancellationToken cancellationToken)
    {
        var contexts = style == NbdHeaderStyle.Simple ? [] : await ListContextsAsync(export.Name, cancellationToken).ConfigureAwait(false);
        var answers = _fixed
            ? await AskAboutAsync(NbdOption.Info, export.Name, NbdInfoRequests.Description | NbdInfoRequests.BlockSize, cancellationToken).ConfigureAwait(false)
            : null;
        MayAbort = _fixed;
        if (answers is null && isLast && style != NbdHeaderStyle.Extended)
        {
            // An old server tells when the export is used.
            var entered = await EnterByNameAsync(export.Name, style, [], cancellationToken).ConfigureAwait(false);
            MayAbort = false;
            return new(export.Name) { Size = entered.Size, Flags = entered.Flags, Contexts = contexts };
        }

        if (answers is null)
        {
            return new(export.Name) { Description = export.Description, Contexts = contexts };
        }

        var agreed = Agree(answers.Details, answers.BlockSizes, style, []);
        return new(export.Name)
        {
            Description = answers.Description ?? export.Description,
            Size = agreed.Size,
            Flags = agreed.Flags,
            BlockSizes = answers.BlockSizes,
            Contexts = contexts,
        };
    }

    private async ValueTask<IReadOnlyList<string>> ListContextsAsync(string exportName, CancellationToken cancellationToken)
    {
        var names = new List<string>();
        await SendOptionAsync(NbdOption.ListMetaContext, new NbdMetaContextQuery(exportName, []).ToArray(), cancellationToken).ConfigureAwait(false);
        while (true)
        {
            var (header, data) = await ReadReplyAsync(NbdOption.ListMetaContext, cancellationToken).ConfigureAwait(false);
            if (header.IsError)
            {
                ThrowIfFinal(header, data, "does not list its metadata contexts");
                return [];
            }

            if (header.Type != NbdOptionReplyType.MetaContext)
            {
                CheckEmptyAck(header);
                return names;
            }

            names.Add(ParseContext(data).Name);
            if (names.Count > MaxContexts)
            {
                throw new BlockException(BlockErrorKind.LimitExceeded, $"{name}: the server lists more than {MaxContexts} metadata contexts");
            }
        }
    }
}
