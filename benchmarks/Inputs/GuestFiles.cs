using System.Buffers.Binary;
using System.Text;

namespace Platter.Bench.Inputs;

/// <summary>A tree of files such as a guest holds: text, binary records, noise that no codec can shrink, and zeros. The same bytes for the same seed.</summary>
/// <remarks>Deflate brings the whole to about half its size, cluster by cluster.</remarks>
internal sealed class GuestFiles(int seed)
{
    private const int PieceBytes = 64 * 1024;

    private readonly Random _random = new(seed);
    private readonly byte[][] _words = MakeWords(new Random(seed));
    private readonly byte[] _piece = new byte[PieceBytes];

    /// <summary>Writes files of about <paramref name="totalBytes"/> in sum.</summary>
    public void WriteTree(string root, long totalBytes)
    {
        var folders = new List<string> { root };
        for (var i = 0; i < 60; i++)
        {
            folders.Add(Directory.CreateDirectory(Path.Combine(folders[_random.Next(folders.Count)], $"folder{i}")).FullName);
        }

        long done = 0;
        for (var i = 0; done < totalBytes; i++)
        {
            var length = Math.Min(totalBytes - done, (long)(4096 * Math.Pow(2, _random.NextDouble() * 11))); // 4 KiB to 8 MiB
            var path = Path.Combine(folders[_random.Next(folders.Count)], $"file{i}");
            WriteFile(path, length, _random.Next(20));
            File.SetLastWriteTimeUtc(path, DateTime.UnixEpoch.AddSeconds(1_700_000_000));
            done += length;
        }
    }

    private void WriteFile(string path, long length, int kind)
    {
        using var file = new FileStream(path, FileMode.CreateNew, FileAccess.Write, FileShare.None, 0);
        for (long at = 0; at < length; at += PieceBytes)
        {
            switch (kind)
            {
                case < 9:
                    FillWithText();
                    break;
                case < 15:
                    FillWithRecords(at);
                    break;
                case < 19:
                    _random.NextBytes(_piece);
                    break;
                default:
                    Array.Clear(_piece);
                    break;
            }

            file.Write(_piece, 0, (int)Math.Min(PieceBytes, length - at));
        }
    }

    private void FillWithText()
    {
        for (var at = 0; at < PieceBytes;)
        {
            // Squaring favours the first words, as language does.
            var draw = _random.NextDouble();
            var word = _words[(int)(draw * draw * _words.Length)];
            var length = Math.Min(word.Length, PieceBytes - at);
            word.AsSpan(0, length).CopyTo(_piece.AsSpan(at));
            at += length;
        }
    }

    private void FillWithRecords(long fileOffset)
    {
        for (var at = 0; at < PieceBytes; at += 32)
        {
            var record = _piece.AsSpan(at, 32);
            record.Clear();
            BinaryPrimitives.WriteInt64LittleEndian(record, fileOffset + at);
            BinaryPrimitives.WriteInt32LittleEndian(record[8..], _random.Next(1000));
            BinaryPrimitives.WriteInt64LittleEndian(record[16..], _random.NextInt64());
        }
    }

    private static byte[][] MakeWords(Random random)
    {
        var words = new byte[4096][];
        for (var i = 0; i < words.Length; i++)
        {
            var text = new StringBuilder();
            for (var letters = 2 + random.Next(9); letters > 0; letters--)
            {
                text.Append((char)('a' + random.Next(26)));
            }

            words[i] = Encoding.ASCII.GetBytes(text + (random.Next(12) == 0 ? ".\n" : " "));
        }

        return words;
    }
}
