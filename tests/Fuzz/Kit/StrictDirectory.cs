using Platter.Core.Errors;
using Platter.Core.Storages;

namespace Platter.Tests.Fuzz;

/// <summary>A directory of the input's files, by the prefix of their names. Refuses what the contract says it refuses.</summary>
internal sealed class StrictDirectory(string name, MemoryOpener opener) : StorageDirectory
{
    private readonly string _prefix = name + "/";

    public override string Name => name;

    private IEnumerable<string> Inside =>
        opener.Names.Where(f => f.StartsWith(_prefix, StringComparison.Ordinal)).Select(f => f[_prefix.Length..]).Order(StringComparer.Ordinal);

    public override IReadOnlyList<string> ListFiles() => [.. Inside.Where(f => !f.Contains('/', StringComparison.Ordinal))];

    public override IReadOnlyList<string> ListDirectories() =>
        [.. Inside.Where(f => f.Contains('/', StringComparison.Ordinal)).Select(f => f[..f.IndexOf('/', StringComparison.Ordinal)]).Distinct()];

    public override bool FileExists(string name) => !Leaves(name) && opener.Names.Contains(_prefix + name);

    public override ValueTask<Storage> OpenFileAsync(string name, CancellationToken cancellationToken = default) =>
        Leaves(name)
            ? throw new BlockException(BlockErrorKind.NotAllowed, $"{Name}/{SafeText.Clean(name, 256)}: lies outside the directory")
            : new(opener.Open(_prefix + name));

    public override ValueTask<StorageDirectory> OpenDirectoryAsync(string name, CancellationToken cancellationToken = default) =>
        Leaves(name)
            ? throw new BlockException(BlockErrorKind.NotAllowed, $"{Name}/{SafeText.Clean(name, 256)}: lies outside the directory")
            : opener.OpenDirectoryAsync(_prefix + name, cancellationToken);

    private static bool Leaves(string name) => name.Length == 0 || name.StartsWith('/') || name.Split('/').Contains("..");
}
