using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Hostile;

/// <summary>Encryption headers that would keep a processor busy for hours.</summary>
public sealed class HostileSecretTests
{
    private const int DigestIterationsAt = 164, SlotsAt = 208, SlotBytes = 48, IterationsAt = 4, KeyMaterialAt = 40, StripesAt = 44;

    [Theory]
    [InlineData("iterations", uint.MaxValue)]
    [InlineData("iterations", 1u << 31)]
    [InlineData("iterations", 0u)]
    [InlineData("mk-digest-iter", uint.MaxValue)]
    [InlineData("mk-digest-iter", 0u)]
    [InlineData("stripes", uint.MaxValue)]
    [InlineData("stripes", 0u)]
    [InlineData("key-material-offset", uint.MaxValue)]
    public void A_LUKS_header_that_asks_for_too_much(string field, uint value)
    {
        using var folder = new TempFolder("hostile");
        var image = Encrypted(folder);
        var luks = image.U64Be(Extension(image));
        foreach (var slot in field == "mk-digest-iter" ? [] : Enumerable.Range(0, 8))
        {
            var at = (long)luks + SlotsAt + (slot * SlotBytes);
            image.PutU32Be(at, 0x00ac71f3);
            image.PutU32Be(at + field switch { "iterations" => IterationsAt, "stripes" => StripesAt, _ => KeyMaterialAt }, value);
        }

        if (field == "mk-digest-iter")
        {
            image.PutU32Be((long)luks + DigestIterationsAt, value);
        }

        image.SaveTo(folder["a.qcow2"]);
        HostileRun.Of("info", folder["a.qcow2"]);
        Convert(folder).Refused("a.qcow2", "LUKS");
        Convert(folder, "--untrusted").Refused("a.qcow2", "LUKS");
        Assert.False(File.Exists(folder["out.raw"]));
    }

    private static HostileRun Convert(TempFolder folder, params string[] options) => HostileRun.Of(
        ["convert", .. options, "--object", "secret,id=s,data=secret", "--image-opts", "-O", "raw",
            $"driver=qcow2,encrypt.key-secret=s,file.filename={folder["a.qcow2"]}", folder["out.raw"]]);

    private static SparseBytes Encrypted(TempFolder folder)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        PeerEncryption.Create(
            "--object", "secret,id=s,data=secret", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", folder["peer.qcow2"], "1M");
        return SparseBytes.Load(folder["peer.qcow2"]);
    }

    // The header extension "full disk encryption header pointer": offset and length follow its type and size.
    private static long Extension(SparseBytes image)
    {
        for (long at = image.U32Be(100); at < 65536; at += 8 + ((image.U32Be(at + 4) + 7) & ~7))
        {
            if (image.U32Be(at) == 0x0537be77)
            {
                return at + 8;
            }
        }

        throw new InvalidOperationException("the peer wrote no encryption header");
    }
}
