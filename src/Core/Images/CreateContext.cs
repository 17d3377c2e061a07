using Platter.Core.Storages;

namespace Platter.Core.Images;

/// <summary>What making an image needs besides its options.</summary>
public sealed class CreateContext
{
    /// <summary>Passwords and keys.</summary>
    public ISecretSource Secrets { get; init; } = NoSecrets.Instance;

    /// <summary>Opens the file that <c>data_file</c> names, for replacing; called once, after every check. Null: there can be none.</summary>
    public Func<string, CancellationToken, ValueTask<Storage>>? OpenDataFileAsync { get; init; }

    /// <summary>Told how much of the preallocation is done, from 0 to 1.</summary>
    public IProgress<double>? Progress { get; init; }

    /// <summary>The image says from its first moment on that it is an unfinished copy, if its format can (<see cref="ImageWriter.SetUnfinishedAsync"/>).</summary>
    public bool Unfinished { get; init; }

    /// <summary>The snapshot that the image is to be, which it then says (<see cref="ImageInfo.Label"/>) if its format can and there is room; null for none.</summary>
    public SnapshotLabel? Label { get; init; }
}
