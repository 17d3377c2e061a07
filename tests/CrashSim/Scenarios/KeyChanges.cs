using System.Text;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Qcow2;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>Passwords of a LUKS image come and go. At every cut a password that was there before and is to stay opens it, and the disk reads the same.</summary>
internal sealed class KeyChanges : CrashScenario
{
    // What is done, and which passwords open the image afterwards.
    private static readonly (string Options, bool Force, string Open)[] s_steps =
    [
        ("state=active,encrypt.new-secret=b,encrypt.iter-time=0,encrypt.keyslot=6", false, "ab"),
        ("state=inactive,encrypt.old-secret=a", false, "b"),
        ("state=active,encrypt.new-secret=c,encrypt.iter-time=0,encrypt.keyslot=6", true, "c"),
        ("state=active,encrypt.new-secret=a,encrypt.iter-time=0", false, "ac"),
        ("state=inactive,encrypt.keyslot=6", false, "a"),
    ];

    public override string Name => "amend-keys";

    public override string Operation => "amend";

    public override int BoundedSeeds => 1;

    public override int SampledStates => 150;

    public override CrashImage Prepare(Random random)
    {
        var storage = new MemoryStorage(CrashImage.Top, []);
        var format = new Qcow2Format();
        var options = format.CreateOptions.Normalize(NodeOptions.ParseKeyValues(
            "encrypt.format=luks,encrypt.key-secret=a,encrypt.iter-time=0,encrypt.cipher-alg=aes-128,cluster_size=4096"));
        var content = TestContent.Make(7, 0, 16384);
        Task.Run(async () =>
        {
            await format.CreateAsync(storage, content.Length, options, new CreateContext { Secrets = new Letters() });
            await using var node = await OpenAsync(new((_, _) => storage), "a", writable: true);
            await node.WriteAsync(default, content);
        }).GetAwaiter().GetResult();
        return new() { Files = new Dictionary<string, byte[]> { [CrashImage.Top] = storage.ToArray() }, Content = content };
    }

    public override async Task RunAsync(CrashRun run)
    {
        var open = "a";
        for (var i = 0; i < s_steps.Length; i++)
        {
            await using var node = (ImageNode)await OpenAsync(run.Storages, open[..1], writable: true);
            await node.AmendAsync(
                NodeOptions.ParseKeyValues($"encrypt.{s_steps[i].Options}"), new AmendContext { Secrets = new Letters(), Force = s_steps[i].Force });
            open = s_steps[i].Open;
            run.Mark($"step {i}");
        }
    }

    public override async Task VerifyAsync(CrashVerifier verifier)
    {
        await verifier.CheckAsync("after the cut");
        var done = 0;
        while (done < s_steps.Length && verifier.Run.Happened($"step {done}", verifier.State))
        {
            done++;
        }

        var before = done == 0 ? "a" : s_steps[done - 1].Open;
        var after = done == s_steps.Length ? before : s_steps[done].Open;
        var open = string.Empty;
        foreach (var letter in "abc")
        {
            try
            {
                await using var node = await OpenAsync(verifier.Storages, $"{letter}", writable: false);
                var found = new byte[node.VirtualSize];
                await node.ReadAsync(default, found);
                CrashViolation.ThrowIf(found.AsSpan().SequenceEqual(verifier.Run.Image.Content) ? null : $"with password '{letter}' the disk reads otherwise");
                open += letter;
            }
            catch (BlockException e) when (e.Kind == BlockErrorKind.WrongSecret)
            {
                // Judged below.
            }
        }

        var stay = before.Where(after.Contains).ToArray();
        CrashViolation.ThrowIf(
            open.Length > 0 && stay.All(open.Contains) && open.All(c => before.Contains(c) || after.Contains(c))
                ? null
                : $"passwords '{open}' open the image; before it were '{before}', after step {done} it will be '{after}'");
    }

    private static ValueTask<BlockNode> OpenAsync(NamedStorages storages, string secret, bool writable)
    {
        var known = storages.Context();
        var context = new OpenContext
        {
            Formats = known.Formats, Storages = storages, Gate = known.Gate, Codecs = known.Codecs, Secrets = new Letters(), DefaultSecretId = secret,
        };
        return new ImageOpener(context).OpenAsync(new OpenRequest { Options = NodeOptions.ForFile(CrashImage.Top), Writable = writable });
    }

    private sealed class Letters : ISecretSource
    {
        public ReadOnlyMemory<byte> Get(string id) => Encoding.UTF8.GetBytes($"password {id}");
    }
}
