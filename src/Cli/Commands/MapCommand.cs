using System.Globalization;
using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Operations.Offline;

namespace Platter.Cli.Commands;

/// <summary><c>map</c>: which image of the chain has what, and where.</summary>
internal sealed class MapCommand : Command
{
    private static readonly Option s_start = new('s', "start-offset", "OFFSET", "Start at this guest offset.");
    private static readonly Option s_length = new('l', "max-length", "LENGTH", "Look at so many bytes at most.");

    public override string Name => "map";

    public override string Summary => "List which parts of a disk hold data, in which image of its chain, and where in that file.";

    public override string Operands => "IMAGE";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, CommonOptions.Format, CommonOptions.Output, s_start, s_length, CommonOptions.ImageOpts, CommonOptions.ForceShare,
        CommonOptions.Object, CommonOptions.PasswordFile, CommonOptions.Disk, CommonOptions.Untrusted, CommonOptions.LoadSnapshot,
    ];

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        var json = WantsJson(arguments);
        var name = OneImage(arguments);
        var start = arguments.Get(s_start) is { } from ? SizeText.Parse(from, "start offset") : 0;
        var length = arguments.Get(s_length) is { } most ? SizeText.Parse(most, "max length") : long.MaxValue;
        var images = ImageArguments.From(arguments, session, CommonOptions.LoadSnapshot);
        var disk = await images.OpenAsync(name).ConfigureAwait(false);
        await using var closing = disk.ConfigureAwait(false);
        var entries = start < disk.Size && length > 0 ? MapOperation.EnumerateAsync(disk.Node, new GuestOffset(start), length) : NothingAsync();
        if (json)
        {
            await WriteJsonAsync(session.Out, entries, start, withFiles: disk.Node.HasSnapshotTree).ConfigureAwait(false);
        }
        else
        {
            await WriteTextAsync(session.Out, entries).ConfigureAwait(false);
        }

        return 0;
    }

    private static async IAsyncEnumerable<MapEntry> NothingAsync()
    {
        await ValueTask.CompletedTask.ConfigureAwait(false);
        yield break;
    }

    private static async ValueTask WriteTextAsync(TextWriter writer, IAsyncEnumerable<MapEntry> entries)
    {
        writer.Write("Offset          Length          Mapped to       File\n");
        await foreach (var entry in entries.ConfigureAwait(false))
        {
            if (!entry.Data || entry.Zero)
            {
                continue;
            }

            if (entry.HostOffset is not { } host || entry.File is not { } file)
            {
                throw new BlockException(BlockErrorKind.Unsupported, "File contains external, encrypted or compressed clusters.");
            }

            WriteHex(writer, entry.Start.Value);
            WriteHex(writer, entry.Length);
            WriteHex(writer, host.Value);
            writer.Write(SafeText.Clean(file));
            writer.Write('\n');
        }
    }

    private static async ValueTask WriteJsonAsync(TextWriter writer, IAsyncEnumerable<MapEntry> entries, long start, bool withFiles)
    {
        var any = false;
        await foreach (var entry in entries.ConfigureAwait(false))
        {
            WriteEntry(writer, any ? ",\n" : "[", entry, withFiles);
            any = true;
        }

        if (!any)
        {
            // What the peers say of an empty range: an entry of no length.
            WriteEntry(writer, "[", new MapEntry(new(start), 0, 0, Present: false, Zero: false, Data: false, Compressed: false, Encrypted: false, null, null), withFile: false);
        }

        writer.Write("]\n");
    }

    // One entry per line, as the peers have it; put together by hand because there may be millions. Of a bundle an offset says nothing without its file: the depth is that of a state,
    // and a state may have several. The peers' schema has a member for that, which they leave out.
    private static void WriteEntry(TextWriter writer, string before, MapEntry entry, bool withFile)
    {
        Span<char> line = stackalloc char[256];
        var at = 0;
        Append(line, ref at, before);
        Append(line, ref at, "{ \"start\": ");
        Append(line, ref at, entry.Start.Value);
        Append(line, ref at, ", \"length\": ");
        Append(line, ref at, entry.Length);
        Append(line, ref at, ", \"depth\": ");
        Append(line, ref at, entry.Depth);
        Append(line, ref at, entry.Present ? ", \"present\": true" : ", \"present\": false");
        Append(line, ref at, entry.Zero ? ", \"zero\": true" : ", \"zero\": false");
        Append(line, ref at, entry.Data ? ", \"data\": true" : ", \"data\": false");
        if (entry.HostOffset is { } host)
        {
            Append(line, ref at, ", \"offset\": ");
            Append(line, ref at, host.Value);
        }

        writer.Write(line[..at]);
        if (withFile && entry is { HostOffset: not null, File: { } file })
        {
            writer.Write(", \"filename\": ");
            JsonOutput.WriteString(writer, file);
        }

        writer.Write('}');
    }

    private static void Append(Span<char> line, ref int at, string text)
    {
        text.CopyTo(line[at..]);
        at += text.Length;
    }

    private static void Append(Span<char> line, ref int at, long number)
    {
        _ = number.TryFormat(line[at..], out var count, provider: CultureInfo.InvariantCulture);
        at += count;
    }

    // C's %#-16x: no prefix for zero, padded to 16 columns.
    private static void WriteHex(TextWriter writer, long number)
    {
        Span<char> text = stackalloc char[20];
        text.Fill(' ');
        text[0] = '0';
        var count = 1;
        if (number != 0)
        {
            text[1] = 'x';
            _ = number.TryFormat(text[2..], out count, "x", CultureInfo.InvariantCulture);
            count += 2;
        }

        writer.Write(text[..Math.Max(count, 16)]);
    }
}
