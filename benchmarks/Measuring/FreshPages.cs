namespace Platter.Bench.Measuring;

/// <summary>Makes free memory that has been touched a moment ago, so that the next run does not pay for the first touch of it.</summary>
/// <remarks>
/// A virtual machine gives free memory back to its host after a second or two, and then writing to it again costs five times as much as writing: on such
/// machines the same copy took 0.4 s or 3 s, by chance. Every timed run that fills a file therefore comes right after
/// one that was filled and deleted here, in the same folder, in pieces as large as the peer's.
/// </remarks>
internal static class FreshPages
{
    private static readonly byte[] Piece = new byte[2 * 1024 * 1024];

    public static void Make(string folder, long sizeBytes)
    {
        var path = Path.Combine(folder, "fresh-pages");
        using (var file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, 0))
        {
            for (long at = 0; at < sizeBytes; at += Piece.Length)
            {
                file.Write(Piece);
            }
        }

        File.Delete(path);
    }
}
