using System.Text;
using Platter.Cli.Io;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Commands;

/// <summary><c>io</c>, and what runs under the name <c>qemu-io</c>: requests to a disk, given as commands.</summary>
internal sealed class IoCommand(string name = "io") : Command
{
    private static readonly Option s_command = new('c', "cmd", "COMMAND", "Run this command instead of those on standard input. Can be given several times.");
    private static readonly Option s_readOnly = new('r', "read-only", null, "Open the image for reading only.");
    private static readonly Option s_overlay = new('s', "snapshot", null, "Writes go to a temporary overlay; the image stays as it is.");
    private static readonly Option s_noCache = new('n', "nocache", null, "Short for -t none.");
    private static readonly Option s_copyOnRead = new('C', "copy-on-read", null, "Keep in the image what is read from its backing chain.");
    private static readonly Option s_misalign = new('m', "misalign", null, "Accepted, as are -k and -i: how the peer talks to its kernel.");
    private static readonly Option s_nativeAio = new('k', "native-aio", null, string.Empty);
    private static readonly Option s_aio = new('i', "aio", "MODE", string.Empty);
    private static readonly Option s_cache = new(
        't', "cache", "MODE", "Cache mode. With writethrough (the default) and directsync every write is durable when it has ended; with writeback, none and unsafe a flush makes it so.");

    private static readonly Option s_discard = new('d', "discard", "MODE", "ignore (or off): discards do nothing; unmap (or on), the default: they give up space.");
    private static readonly Option s_trace = new('T', "trace", "PATTERN", string.Empty);

    public override string Name => name;

    public override string Summary => "Read, write, zero, discard and map a disk by commands, as qemu-io does. Made for tests: patterns, fault injection.";

    public override string Operands => "[IMAGE]";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, s_command, CommonOptions.Format, s_readOnly, s_overlay, s_noCache, s_copyOnRead, s_misalign, s_nativeAio, s_aio, s_cache, s_discard,
        CommonOptions.ForceShare, CommonOptions.ImageOpts, CommonOptions.Object, CommonOptions.PasswordFile, CommonOptions.Disk, CommonOptions.LoadSnapshot, s_trace, CommonOptions.Version,
    ];

    public override string Details =>
        "Each command is answered before the next one is read. 'platter io -c help' lists the commands.\n"
        + "Exit code: 0 when every command succeeded; 1 otherwise. Requests in the background (aio_read, aio_write) do not count.";

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        if (arguments.Operands.Count > 1)
        {
            throw new UsageException("more than one image", pointToHelp: true);
        }

        if (arguments.Has(CommonOptions.ImageOpts) && arguments.Has(CommonOptions.Format))
        {
            throw new UsageException("--image-opts and -f are mutually exclusive");
        }

        if (arguments.Has(s_trace))
        {
            session.Warn("tracing is not supported");
        }

        var images = ImageArguments.From(arguments, session, CommonOptions.LoadSnapshot);
        var opening = IoSettings.Apply(
            new()
            {
                Name = string.Empty,
                Source = new NodeOptions(),
                Format = arguments.Get(CommonOptions.Format),
                ReadOnly = arguments.Has(s_readOnly) || arguments.Has(CommonOptions.LoadSnapshot),
                Overlay = arguments.Has(s_overlay),
                CopiesOnRead = arguments.Has(s_copyOnRead),
                ForceShare = arguments.Has(CommonOptions.ForceShare),
            },
            arguments.Has(s_noCache) ? "none" : arguments.Get(s_cache), arguments.Get(s_discard), arguments.Get(s_aio));
        var shell = new IoShell(session, images, session.WatchInterrupts());
        if (arguments.Operands.Count == 1)
        {
            var image = arguments.Operands[0];
            await shell.OpenDeviceAsync(opening with { Name = image, Source = ParseName(images, image) }).ConfigureAwait(false);
        }

        var ok = false;
        try
        {
            ok = arguments.Has(s_command)
                ? await shell.RunAsync(arguments.GetAll(s_command)).ConfigureAwait(false)
                : await shell.RunAsync(session.In).ConfigureAwait(false);
        }
        finally
        {
            await shell.CloseAsync().ConfigureAwait(false);
        }

        return ok ? 0 : 1;
    }

    private static NodeOptions ParseName(ImageArguments images, string name)
    {
        try
        {
            return images.Parse(name);
        }
        catch (BlockException e)
        {
            throw new BlockException(e.Kind, $"can't open device {name}: {e.Message}", e);
        }
    }
}
