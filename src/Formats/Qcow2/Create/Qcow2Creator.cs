using System.Buffers.Binary;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Create;

// The order on the disk: the old content goes (a file is cut to nothing, a device loses its first cluster), flush; every table and the data file;
// flush; the header's later sectors, flush, and last its first sector, which has the magic. A cut before that leaves a file that begins with zeros, so
// that nobody takes it for a qcow2 image; a cut after it leaves a finished one. Nothing here goes through the writing half of the driver: in a new image
// everything lies one behind the other and has refcount 1, so that tables are computed and written in long runs.

/// <summary>Makes a qcow2 image.</summary>
internal static class Qcow2Creator
{
    private const int RunBytes = 2 * 1024 * 1024;

    /// <summary>Judges all that needs no file.</summary>
    public static void Check(long virtualSize, NodeOptions options, CreateContext context) => _ = Plan(virtualSize, options, context);

    /// <summary>Makes it; the storage's content is lost once the checks are through.</summary>
    public static async ValueTask RunAsync(
        Storage storage, long virtualSize, NodeOptions options, CreateContext context, CancellationToken cancellationToken)
    {
        var plan = Plan(virtualSize, options, context);
        var (settings, layout) = (plan.Settings, plan.Layout);
        var header = HeaderOf(plan).ToBytes(storage.Name);
        if (context.Unfinished && settings.Version3)
        {
            header = UnfinishedMark.On(HeaderCluster.Parse(header, storage.Name)).ToBytes(storage.Name);
        }

        if (context.Label is { } label)
        {
            header = SnapshotLabelExtension.AddTo(HeaderCluster.Parse(header, storage.Name), label).ToBytes(storage.Name);
        }

        RequireRoom(storage, layout.FileLength);

        // Seconds of computing come before anything is lost.
        var luks = plan.Luks is { } formatter
            ? await Task.Run(() => formatter.Make(context.Secrets.Get(settings.KeySecret!).Span, cancellationToken), cancellationToken).ConfigureAwait(false)
            : null;
        var data = settings.DataFile is { } name
            ? await (context.OpenDataFileAsync ?? throw Invalid("a data file cannot be made here"))(name, cancellationToken).ConfigureAwait(false)
            : null;
        try
        {
            if (data is not null)
            {
                RefuseSame(storage, data);
                RequireRoom(data, layout.DataFileLength);
            }

            try
            {
                await EmptyAsync(storage, layout, cancellationToken).ConfigureAwait(false);
                await WriteAsync(storage, data, plan, header, luks, context.Progress, cancellationToken).ConfigureAwait(false);
            }
            catch
            {
                await GiveUpAsync(storage).ConfigureAwait(false);
                throw;
            }
        }
        finally
        {
            if (data is not null)
            {
                await data.DisposeAsync().ConfigureAwait(false);
            }
        }
    }

    private static async ValueTask WriteAsync(
        Storage storage, Storage? data, NewImage plan, byte[] header, byte[]? luks, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        var (settings, layout) = (plan.Settings, plan.Layout);
        if (data is not null)
        {
            await MakeDataFileAsync(data, layout, settings.Preallocation, cancellationToken).ConfigureAwait(false);
        }

        await WriteRefcountsAsync(storage, layout, settings, cancellationToken).ConfigureAwait(false);
        if (luks is not null)
        {
            await storage.WriteAsync(layout.LuksHeader, luks, cancellationToken).ConfigureAwait(false);
        }

        await WriteMappingAsync(storage, layout, settings, progress, cancellationToken).ConfigureAwait(false);
        if (data is null && layout.GuestClusters > 0)
        {
            await PreallocateAsync(
                storage, layout.Data, layout.GuestClusters * layout.ClusterSize, settings.Preallocation, cancellationToken).ConfigureAwait(false);
        }

        if (data is not null)
        {
            await data.FlushAsync(cancellationToken).ConfigureAwait(false);
        }

        await WriteHeaderAsync(storage, header, cancellationToken).ConfigureAwait(false);
    }

    // What was in the file is lost, and what is there now is nothing: give the space back. The header goes with it, if it was written at all.
    private static async ValueTask GiveUpAsync(Storage storage)
    {
        if (storage.HasFixedLength)
        {
            return;
        }

        try
        {
            await storage.SetLengthAsync(0, CancellationToken.None).ConfigureAwait(false);
        }
        catch (BlockException)
        {
            // The error that brought us here is the one to report.
        }
    }

    private static NewImage Plan(long virtualSize, NodeOptions options, CreateContext context)
    {
        var settings = Qcow2CreateSettings.Parse(options);
        var luks = settings.Luks ? LuksFormatter.Parse(settings.Encryption) : null;
        if (settings.CryptMethod != CryptMethod.None)
        {
            _ = context.Secrets.Get(settings.KeySecret ?? throw Invalid("Parameter 'encrypt.key-secret' is required for cipher"));
        }

        var plan = new NewImage(settings, NewImageLayout.Compute(virtualSize, settings, luks?.HeaderBytes ?? 0), luks);
        try
        {
            _ = HeaderOf(plan).ToBytes(string.Empty);
        }
        catch (ImageFormatException e) when (e.Kind == BlockErrorKind.NoSpace && settings.BackingFile is { } backing)
        {
            throw Invalid($"Could not assign backing file '{SafeText.Clean(backing, 64)}': it does not fit into the first cluster");
        }

        return plan;
    }

    private static HeaderCluster HeaderOf(NewImage plan)
    {
        var (settings, layout) = (plan.Settings, plan.Layout);
        return new HeaderCluster
        {
            Header = new Qcow2Header
            {
                Version = settings.Version3 ? 3U : 2U,
                BackingFileOffset = 0,
                BackingFileSize = 0,
                ClusterBits = (uint)settings.ClusterBits,
                Size = (ulong)layout.VirtualSize,
                CryptMethod = settings.CryptMethod,
                L1Size = (uint)layout.L1Entries,
                L1TableOffset = layout.L1Entries == 0 ? 0 : (ulong)layout.L1Table.Value,
                RefcountTableOffset = (ulong)layout.RefcountTable.Value,
                RefcountTableClusters = (uint)layout.RefcountTableClusters,
                SnapshotCount = 0,
                SnapshotsOffset = 0,
                Incompatible = (settings.DataFile is not null ? IncompatibleFeatures.ExternalDataFile : 0)
                    | (settings.CompressionType != CompressionType.Zlib ? IncompatibleFeatures.CompressionType : 0)
                    | (settings.ExtendedL2 ? IncompatibleFeatures.ExtendedL2 : 0),
                Compatible = settings.LazyRefcounts ? CompatibleFeatures.LazyRefcounts : 0,
                Autoclear = settings.DataFileRaw ? AutoclearFeatures.RawExternalData : 0,
                RefcountOrder = (uint)settings.RefcountOrder,
                CompressionType = settings.CompressionType,
            },
            BackingFile = Encoding.UTF8.GetBytes(settings.BackingFile ?? string.Empty),
            BackingFormat = BytesOf(settings.BackingFormat),
            DataFileName = BytesOf(settings.DataFile),
            Encryption = plan.Luks is { } luks ? new EncryptionHeaderPointer((ulong)layout.LuksHeader.Value, (ulong)luks.HeaderBytes) : null,
        };
    }

    private static ReadOnlyMemory<byte>? BytesOf(string? text) => text is null ? default(ReadOnlyMemory<byte>?) : Encoding.UTF8.GetBytes(text);

    private static void RequireRoom(Storage storage, long length)
    {
        if (storage.HasFixedLength && storage.Length < length)
        {
            throw new BlockException(BlockErrorKind.NoSpace, $"{storage.Name}: has {storage.Length} bytes, {length} are needed");
        }
    }

    private static void RefuseSame(Storage storage, Storage data)
    {
        if (storage.Identity is { } identity && data.Identity == identity)
        {
            throw Invalid($"{storage.Name}: the image cannot be its own data file");
        }
    }

    private static async ValueTask EmptyAsync(Storage storage, NewImageLayout layout, CancellationToken cancellationToken)
    {
        if (storage.HasFixedLength)
        {
            // A device has old bytes everywhere; the first cluster is what tells what they are, the L1 table what would be read of them.
            await storage.WriteZeroesAsync(HostOffset.Zero, layout.ClusterSize, mayUnmap: false, cancellationToken).ConfigureAwait(false);
            await storage.FlushAsync(cancellationToken).ConfigureAwait(false);
            if (layout.L1Entries > 0)
            {
                await storage.WriteZeroesAsync(layout.L1Table, layout.LuksHeader - layout.L1Table, mayUnmap: false, cancellationToken).ConfigureAwait(false);
            }

            if (layout.GuestClusters > 0 && !layout.HasDataFile)
            {
                await storage.WriteZeroesAsync(
                    layout.Data, layout.GuestClusters * layout.ClusterSize, mayUnmap: false, cancellationToken).ConfigureAwait(false);
            }

            return;
        }

        if (storage.Length > 0)
        {
            await storage.SetLengthAsync(0, cancellationToken).ConfigureAwait(false);
            await storage.FlushAsync(cancellationToken).ConfigureAwait(false);
        }

        await storage.SetLengthAsync(layout.FileLength, cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask MakeDataFileAsync(Storage data, NewImageLayout layout, Preallocation preallocation, CancellationToken cancellationToken)
    {
        if (data.HasFixedLength)
        {
            await data.WriteZeroesAsync(HostOffset.Zero, layout.DataFileLength, mayUnmap: true, cancellationToken).ConfigureAwait(false);
            return;
        }

        await data.SetLengthAsync(0, cancellationToken).ConfigureAwait(false);
        await data.SetLengthAsync(layout.DataFileLength, cancellationToken).ConfigureAwait(false);
        await PreallocateAsync(data, HostOffset.Zero, layout.DataFileLength, preallocation, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Sets space aside where a file has a hole so far.</summary>
    internal static async ValueTask PreallocateAsync(
        Storage storage, HostOffset at, long length, Preallocation preallocation, CancellationToken cancellationToken)
    {
        if (preallocation is Preallocation.Off or Preallocation.Metadata || (preallocation == Preallocation.Falloc && storage.TryReserve(at, length)))
        {
            return;
        }

        var zeros = new byte[(int)Math.Min(RunBytes, length)];
        for (long done = 0; done < length; done += zeros.Length)
        {
            await storage.WriteAsync(
                at + done, zeros.AsMemory(0, (int)Math.Min(zeros.Length, length - done)), cancellationToken).ConfigureAwait(false);
        }
    }

    private static async ValueTask WriteRefcountsAsync(
        Storage storage, NewImageLayout layout, Qcow2CreateSettings settings, CancellationToken cancellationToken)
    {
        await WriteWordsAsync(
            storage, layout.RefcountTable, layout.RefcountTableClusters * layout.ClusterSize / RefcountTableEntry.Size,
            index => index < layout.RefcountBlocks ? (ulong)(layout.FirstRefcountBlock + (index * layout.ClusterSize)).Value : 0,
            null, cancellationToken).ConfigureAwait(false);

        // The same bytes for every block but the last, which counts what is there and no more.
        var blocksPerRun = (int)Math.Min(layout.RefcountBlocks, Math.Max(1, RunBytes / layout.ClusterSize));
        var run = new byte[blocksPerRun * layout.ClusterSize];
        var perBlock = layout.ClusterSize * 8 / settings.RefcountBits;
        FillWithOnes(run, (int)(perBlock * blocksPerRun), settings.RefcountOrder);
        for (long block = 0; block < layout.RefcountBlocks; block += blocksPerRun)
        {
            var blocks = Math.Min(blocksPerRun, layout.RefcountBlocks - block);
            var counts = layout.TotalClusters - (block * perBlock);
            if (counts < blocks * perBlock)
            {
                run.AsSpan().Clear();
                FillWithOnes(run, (int)counts, settings.RefcountOrder);
            }

            await storage.WriteAsync(
                layout.FirstRefcountBlock + (block * layout.ClusterSize), run.AsMemory(0, (int)(blocks * layout.ClusterSize)), cancellationToken).ConfigureAwait(false);
        }
    }

    private static void FillWithOnes(Span<byte> bytes, int count, int order)
    {
        // A power of two is a whole number of bytes; the pattern repeats, the rest follows one by one.
        var pattern = Math.Min(count & -8, 8);
        for (var i = 0; i < pattern; i++)
        {
            RefcountBlock.Set(bytes, i, order, 1);
        }

        var patternBytes = (pattern << order) / 8;
        var repeated = patternBytes == 0 ? 0 : (int)((((long)count << order) / 8) / patternBytes * patternBytes);
        for (var done = patternBytes; done < repeated;)
        {
            var more = Math.Min(done, repeated - done);
            bytes[..more].CopyTo(bytes[done..]);
            done += more;
        }

        for (var i = (int)(((long)repeated * 8) >> order); i < count; i++)
        {
            RefcountBlock.Set(bytes, i, order, 1);
        }
    }

    private static async ValueTask WriteMappingAsync(
        Storage storage, NewImageLayout layout, Qcow2CreateSettings settings, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        if (layout.L2Tables == 0)
        {
            // Whoever writes to the image finds out before that there is no space, and not when he has to say where his data are.
            await storage.GiveSpaceAsync(layout.L1Table, layout.L1Entries * L1Entry.Size, mayReserve: false, cancellationToken).ConfigureAwait(false);
            return;
        }

        await WriteWordsAsync(
            storage, layout.L1Table, layout.L1Entries,
            index => L1Entry.CopiedFlag | (ulong)(layout.FirstL2Table + (index * layout.ClusterSize)).Value, null, cancellationToken).ConfigureAwait(false);

        // With subclusters the second word says that none of them is written yet, so that a backing file shows through, as with the peers.
        var wordsPerEntry = settings.L2EntryBytes / 8;
        var words = layout.L2Tables * (layout.ClusterSize / 8);
        await WriteWordsAsync(
            storage, layout.FirstL2Table, words,
            index => index % wordsPerEntry == 0 && index / wordsPerEntry < layout.GuestClusters
                ? L2Entry.CopiedFlag | (ulong)(layout.Data + (index / wordsPerEntry * layout.ClusterSize)).Value
                : 0,
            progress, cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask WriteWordsAsync(
        Storage storage, HostOffset at, long count, Func<long, ulong> word, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        var run = new byte[(int)Math.Min(RunBytes, count * 8)];
        for (long done = 0; done < count;)
        {
            var words = (int)Math.Min(run.Length / 8, count - done);
            for (var i = 0; i < words; i++)
            {
                BinaryPrimitives.WriteUInt64BigEndian(run.AsSpan(i * 8), word(done + i));
            }

            await storage.WriteAsync(at + (done * 8), run.AsMemory(0, words * 8), cancellationToken).ConfigureAwait(false);
            done += words;
            progress?.Report((double)done / count);
        }
    }

    private static async ValueTask WriteHeaderAsync(Storage storage, byte[] header, CancellationToken cancellationToken)
    {
        if (header.Length > Sizes.SectorBytes)
        {
            await storage.WriteAsync(
                new HostOffset(Sizes.SectorBytes), header.AsMemory(Sizes.SectorBytes), cancellationToken).ConfigureAwait(false);
        }

        await storage.FlushAsync(cancellationToken).ConfigureAwait(false);
        await storage.WriteAsync(HostOffset.Zero, header.AsMemory(0, Sizes.SectorBytes), cancellationToken).ConfigureAwait(false);
        await storage.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);

    private sealed record NewImage(Qcow2CreateSettings Settings, NewImageLayout Layout, LuksFormatter? Luks);
}
