using Platter.Core.Images;
using Platter.Core.Units;
using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Texts that become something to open: option lists, <c>json:</c> names, NBD addresses, snapshot selectors, sizes; and the gate behind them.</summary>
internal sealed class NamesTarget : FuzzTarget
{
    private static readonly string[] s_seeds =
    [
        "driver=qcow2,file.driver=file,file.filename=/tmp/a,,b.qcow2,backing.driver=raw",
        "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"nbd\",\"server\":{\"type\":\"inet\",\"host\":\"localhost\",\"port\":\"10809\"}},\"a\":[1,null,true,{\"b\":2.5}]}",
        "nbd://user@localhost:10809/export?tls-certificates=/x&a=b#frag", "nbd+unix:///export?socket=/tmp/sock", "nbds://[::1]:1/%2f%00", "nbd:localhost:10809:exportname=x",
        "nbd:unix:/tmp/s:exportname=y", "file:a.qcow2", "http://host/x", "fat:rw:/tmp", "../a/b.qcow2", "/abs/path", "snapshot.id=1,snapshot.name=two", "10G", "0x100", "1.5T",
        "{5fbaabe3-6958-40ff-92a7-860e329aab41}",
    ];

    public override string Name => "names";

    public override int BoundedCases => 8_000;

    public override FuzzInput Make(Random random) =>
        new("text", SparseBytes.From(System.Text.Encoding.Unicode.GetBytes(TextMutator.Mutate(s_seeds[random.Next(s_seeds.Length)], random))));

    public override FuzzInput FromFinding(byte[] bytes) => new("text", SparseBytes.From(bytes));

    public override ValueTask SwallowAsync(FuzzInput input, Random random, CancellationToken cancellationToken)
    {
        var text = System.Text.Encoding.Unicode.GetString(input.MainBytes.ToArray());
        Oracle.Allows(() => Use(DiskName.Parse(text)));
        Oracle.Allows(() => Use(NodeOptions.ParseKeyValues(text)));
        Oracle.Allows(() => Use(NodeOptions.ParseJson(text.StartsWith("json:", StringComparison.Ordinal) ? text[5..] : text)));
        Oracle.Allows(() => SnapshotSelector.Parse(text).FindIn([]));
        Oracle.Allows(() => ByteCount.TryParse(text, out _));
        foreach (var kind in Enum.GetValues<ReferenceKind>())
        {
            Oracle.Allows(() => Judge(new LocalFilesGate().Resolve(new ImageReference(kind, text, null, "image.qcow2", "dir"))), "image.qcow2");
        }

        return ValueTask.CompletedTask;
    }

    private static void Use(NodeOptions options)
    {
        _ = options.ToString();
        foreach (var key in options.Keys.ToArray())
        {
            _ = options[key];
            options.Child(key.Split('.')[0]);
        }

        _ = options.Driver;
        Oracle.Allows(() => options.GetSwitch("read-only", otherwise: true));
    }

    // Whatever the gate lets through leads to a local file or an NBD export, at any depth of the options.
    private static void Judge(NodeOptions options)
    {
        Use(options);
        foreach (var key in options.Keys)
        {
            var value = options[key];
            if ((key == "driver" || key.EndsWith(".driver", StringComparison.Ordinal))
                && value is not (null or "file" or "host_device" or "nbd" or "qcow2" or "raw" or "parallels" or "parallels-bundle"))
            {
                throw new FuzzException($"the gate lets driver '{value}' through: {options}");
            }

            if ((key == "filename" || key.EndsWith(".filename", StringComparison.Ordinal)) && value is not null && value.Contains("://", StringComparison.Ordinal)
                && DiskName.ProtocolOf(value) is not null)
            {
                throw new FuzzException($"the gate lets the name '{value}' through: {options}");
            }
        }
    }
}
