using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Operations.Digest;

namespace Platter.Cli.Commands;

/// <summary><c>digest</c>: one value for what a guest reads, whatever the format.</summary>
internal sealed class DigestCommand : Command
{
    public override string Name => "digest";

    public override string Summary => "Print a digest of what a guest would read from a disk: the same for every format that holds the same bytes.";

    public override string Operands => "IMAGE...";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, CommonOptions.Format, CommonOptions.Snapshot, CommonOptions.Output, CommonOptions.Progress, CommonOptions.ImageOpts,
        CommonOptions.ForceShare, CommonOptions.Object, CommonOptions.PasswordFile, CommonOptions.Disk, CommonOptions.Untrusted,
    ];

    public override string Details => "The construction is described in docs/digest.md. It is not the SHA-256 of a raw file.";

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        var json = WantsJson(arguments);
        if (arguments.Operands.Count == 0)
        {
            throw new UsageException("Expecting an image file name", pointToHelp: true);
        }

        var stop = session.WatchInterrupts();
        var images = ImageArguments.From(arguments, session);
        var results = new List<(string Name, long Size, string Digest)>();
        foreach (var name in arguments.Operands)
        {
            var disk = await images.OpenAsync(name, null, stop).ConfigureAwait(false);
            await using var closing = disk.ConfigureAwait(false);
            using var progress = ProgressLine.Start(session, arguments.Has(CommonOptions.Progress) && !json);
            var digest = await DigestOperation.ComputeAsync(disk.Node, progress, stop).ConfigureAwait(false);
            progress.GiveWay();
            results.Add((name, disk.Size, digest));
            if (!json)
            {
                session.Out.Write($"{digest}  {name}\n");
                session.Out.Flush();
            }
        }

        if (json)
        {
            WriteJson(new JsonOutput(session.Out), results);
        }

        return 0;
    }

    private static void WriteJson(JsonOutput json, List<(string Name, long Size, string Digest)> results)
    {
        json.BeginArray();
        foreach (var (name, size, digest) in results)
        {
            json.BeginObject();
            json.Member("filename", name);
            json.Member("virtual-size", size);
            json.Member("digest", digest);
            json.EndObject();
        }

        json.EndArray();
        json.Finish();
    }
}
