using System.Runtime.Intrinsics;
using Platter.Formats.Qcow2.Encryption.Ciphers;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Encryption;

/// <summary>The logic of Serpent's S-boxes against the tables of its specification.</summary>
public class SerpentSBoxTests
{
    private delegate void Box(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d);

    private static readonly Box[] Forward =
    [
        SerpentSBoxes.S0, SerpentSBoxes.S1, SerpentSBoxes.S2, SerpentSBoxes.S3, SerpentSBoxes.S4, SerpentSBoxes.S5, SerpentSBoxes.S6, SerpentSBoxes.S7,
    ];

    private static readonly Box[] Backward =
    [
        SerpentSBoxes.Inverse0, SerpentSBoxes.Inverse1, SerpentSBoxes.Inverse2, SerpentSBoxes.Inverse3,
        SerpentSBoxes.Inverse4, SerpentSBoxes.Inverse5, SerpentSBoxes.Inverse6, SerpentSBoxes.Inverse7,
    ];

    [Theory]
    [InlineData(0, "3 8 15 1 10 6 5 11 14 13 4 2 7 0 9 12")]
    [InlineData(1, "15 12 2 7 9 0 5 10 1 11 14 8 6 13 3 4")]
    [InlineData(2, "8 6 7 9 3 12 10 15 13 1 14 4 0 11 5 2")]
    [InlineData(3, "0 15 11 8 12 9 6 3 13 1 2 4 10 7 5 14")]
    [InlineData(4, "1 15 8 3 12 0 11 6 2 5 4 10 9 14 7 13")]
    [InlineData(5, "15 5 2 11 4 10 9 12 0 3 14 8 13 6 7 1")]
    [InlineData(6, "7 2 12 5 8 4 6 11 14 9 1 15 13 3 10 0")]
    [InlineData(7, "1 13 15 0 14 8 2 11 7 4 12 10 9 3 5 6")]
    public void Every_box_is_its_table_and_its_inverse_undoes_it(int box, string table)
    {
        var wanted = table.Split(' ').Select(int.Parse).ToArray();

        // Bit n of the four words is nibble n, so the sixteen inputs fit in one word.
        var a = Vector256.Create(0xaaaau);
        var b = Vector256.Create(0xccccu);
        var c = Vector256.Create(0xf0f0u);
        var d = Vector256.Create(0xff00u);
        Forward[box](ref a, ref b, ref c, ref d);
        var got = Enumerable.Range(0, 16)
            .Select(n => (int)(((a[3] >> n) & 1) | (((b[3] >> n) & 1) << 1) | (((c[3] >> n) & 1) << 2) | (((d[3] >> n) & 1) << 3)));
        Assert.Equal(wanted, got);

        Backward[box](ref a, ref b, ref c, ref d);
        Assert.Equal((0xaaaau, 0xccccu, 0xf0f0u, 0xff00u), (a[0] & 0xffff, b[1] & 0xffff, c[2] & 0xffff, d[7] & 0xffff));
    }
}
