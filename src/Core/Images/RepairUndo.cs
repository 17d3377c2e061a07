using Platter.Core.Errors;
using Platter.Core.Storages;

namespace Platter.Core.Images;

/// <summary>What takes a repair back: the file is byte for byte what it was before.</summary>
/// <remarks>It is made when everything is known that the repair will do, written to a file, and played back only while the image is what the repair left.</remarks>
public abstract class RepairUndo
{
    // The ranges of a repair that wrote every table of a huge image; only of a form that fits in memory.
    private const long MaxEagerBytes = 64 << 20;

    /// <summary>The image's name when it was repaired.</summary>
    public abstract string ImageName { get; }

    /// <summary>Whether the file was not there before the repair: <see cref="ApplyAsync"/> judges it then, and the caller removes it.</summary>
    public virtual bool RemovesFile => false;

    /// <summary>Reads an undo file.</summary>
    /// <param name="file">Must stay open until the repair has been taken back.</param>
    /// <param name="cancellationToken">Stops.</param>
    /// <exception cref="BlockException">It is none, or is damaged.</exception>
    public static async ValueTask<RepairUndo> ReadAsync(Storage file, CancellationToken cancellationToken = default)
    {
        var head = new byte[OverwriteUndo.Magic.Length];
        var read = await file.ReadAsync(default, head, cancellationToken).ConfigureAwait(false);
        if (head.AsSpan(0, read).SequenceEqual(OverwriteUndo.Magic))
        {
            return await OverwriteUndo.OpenAsync(file, cancellationToken).ConfigureAwait(false);
        }

        if (file.Length > MaxEagerBytes)
        {
            throw NoUndoFile(file.Name);
        }

        var bytes = new byte[file.Length];
        read = await file.ReadAsync(default, bytes, cancellationToken).ConfigureAwait(false);
        return head.AsSpan().SequenceEqual(ReplacementUndo.Magic) ? ReplacementUndo.Parse(bytes.AsSpan(0, read), file.Name) : SwitchUndo.Parse(bytes.AsSpan(0, read), file.Name);
    }

    /// <summary>Writes the undo file.</summary>
    public abstract ValueTask WriteToAsync(Stream target, CancellationToken cancellationToken = default);

    /// <summary>Takes the repair back.</summary>
    /// <param name="storage">The image, open for writing and locked.</param>
    /// <param name="cancellationToken">Stops before anything was changed.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: the image is not, or no longer, what the repair left; nothing was changed.</exception>
    public abstract ValueTask ApplyAsync(Storage storage, CancellationToken cancellationToken = default);

    /// <summary>The error for a file that is something else.</summary>
    protected static BlockException NoUndoFile(string file) => new(BlockErrorKind.WrongFormat, $"{file}: is not an undo file of a repair");

    /// <summary>The error for a file that is not as it was written.</summary>
    protected static BlockException Damaged(string file) => new(BlockErrorKind.CorruptImage, $"{file}: the undo file is damaged");

    /// <summary>The error for an image that has changed.</summary>
    protected static BlockException NotAsLeft(Storage storage, string name) => new(
        BlockErrorKind.InvalidRequest,
        $"{storage.Name}: is not as the repair of '{SafeText.Clean(name, 256)}' left it: another image, or it has been written to since; nothing was changed");
}
