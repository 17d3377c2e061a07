using Platter.Core.Images;
using Platter.Nbd.Tls;

namespace Platter;

/// <summary>How a disk is opened. The defaults suit a person's own images.</summary>
public sealed record DiskOpenOptions
{
    /// <summary>The format (<c>qcow2</c>, <c>parallels</c>, <c>parallels-bundle</c>, <c>raw</c>), or null to probe.
    /// Declare it whenever you know it: a guest can make a raw disk look like anything.</summary>
    public string? Format { get; init; }

    /// <summary>The snapshot to open instead of the current state.</summary>
    public SnapshotSelector? Snapshot { get; init; }

    /// <summary>Open for reading and writing: nobody else may use the image meanwhile. The backing chain is only read.</summary>
    public bool Writable { get; init; }

    /// <summary>Which backing file is opened for writing too: 1 for the image's own, 2 for that one's, and so on; 0 for none. For <see cref="Disk.CommitAsync"/>.</summary>
    public int WritableBacking { get; init; }

    /// <summary>Leave the backing file closed: only to change its name without looking (<see cref="Disk.RebaseAsync"/>). What the image does not store reads as zeros.</summary>
    public bool WithoutBacking { get; init; }

    /// <summary>How hard compressed writes try: 1 (fast) to 9 (zlib) or 22 (zstd), the higher the smaller; null for the library's own choice.</summary>
    public int? CompressionLevel { get; init; }

    // An unfinished copy is opened by whoever goes on with it, and by nobody else.
    internal bool AllowUnfinished { get; init; }

    /// <summary>What the image gives up (discarded, deleted with a snapshot, cut off) keeps its space on the host and is used again by the image alone; otherwise it becomes a hole
    /// in the file.</summary>
    public bool KeepsSpace { get; init; }

    /// <summary>Leave nothing in the host's cache, as far as the host can do that: what local files hold is read from the disk each time, and written to it soon.</summary>
    public bool BypassHostCache { get; init; }

    /// <summary>Ignore image locks: the image may change while it is read.</summary>
    public bool ForceShare { get; init; }

    /// <summary>Open the named file and nothing it names; enough for <see cref="Disk.GetInfoAsync"/>.</summary>
    public bool MetadataOnly { get; init; }

    /// <summary>With <see cref="MetadataOnly"/>: open the images of the backing chain too, each as far as <see cref="Disk.GetInfoAsync"/> needs.</summary>
    public bool BackingChain { get; init; }

    /// <summary>Open the named file alone, for <see cref="Disk.RepairAsync"/>: nobody else may use it meanwhile, and it need not be good enough to be read.</summary>
    public bool ForRepair { get; init; }

    /// <summary>For images that strangers made: references are not followed and limits are tight.</summary>
    public bool Untrusted { get; init; }

    /// <summary>Passwords and keys by id.</summary>
    public ISecretSource Secrets { get; init; } = NoSecrets.Instance;

    /// <summary>TLS credentials for NBD exports by id (option <c>tls-creds</c> of driver <c>nbd</c>); null for none. May throw a <see cref="Core.Errors.BlockException"/>. An image
    /// that names an export never gets any of them.</summary>
    public Func<string, NbdClientTls>? NbdCredentials { get; init; }

    /// <summary>Which disk of a bundle that holds several.</summary>
    public string? BundleDisk { get; init; }

    /// <summary>What images may make us open; null chooses by <see cref="Untrusted"/> and <see cref="MetadataOnly"/>.</summary>
    public OpenGate? Gate { get; init; }

    /// <summary>Bytes that parsed tables may occupy in memory, for the whole backing chain.</summary>
    public long MetadataCacheBytes { get; init; } = Core.Metadata.MetadataCache.DefaultBudgetBytes;

    /// <summary>Receives one-line warnings; they may hold image-supplied text.</summary>
    public Action<string> Warn { get; init; } = static _ => { };

    /// <summary>The password of every encrypted image of the chain whose options name no secret, as UTF-8; a shorthand for <see cref="Secrets"/>.</summary>
    public string? Password { get; init; }
}
