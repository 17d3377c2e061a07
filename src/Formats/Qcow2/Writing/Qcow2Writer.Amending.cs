using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Create;
using Platter.Formats.Qcow2.Encryption;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Writing;

// Changing options. Every step is one switch of the header, between two images that are both whole:
// up to version 3 (the snapshot table gets what that demands first); key slots; refcounts of another width; before version 2, zero clusters become
// data (both versions understand that); last the header's own fields and the way down. After a cut the same call goes on where it was.
internal sealed partial class Qcow2Writer
{
    /// <inheritdoc/>
    public override async ValueTask<NodeOptions> AmendAsync(NodeOptions options, AmendContext context, CancellationToken cancellationToken = default)
    {
        var first = new byte[_geometry.ClusterSize];
        _ = await _storage.ReadAsync(default, first, cancellationToken).ConfigureAwait(false);
        var header = _header.Header;
        var cluster = HeaderCluster.Parse(first, _storage.Name);
        var wanted = Qcow2AmendSettings.Parse(options, header, cluster);
        var keys = wanted.Encryption is null ? null : LuksKeyChange.Parse(wanted.Encryption, context);
        if (wanted.Version > header.Version)
        {
            await GoUpAsync(cancellationToken).ConfigureAwait(false);
            _checkpoint.GiveUp(ToReopen());
            return LeftAfter(options, "compat");
        }

        if (keys is not null)
        {
            await ChangeKeysAsync(keys, cluster.Encryption!.Value, cancellationToken).ConfigureAwait(false);
            options = Without(options, "encrypt.");
        }

        var goesDown = wanted.Version < header.Version;
        if (goesDown)
        {
            await PrepareDownAsync(context.Progress, cancellationToken).ConfigureAwait(false);
        }

        if (wanted.RefcountOrder != header.RefcountOrder)
        {
            await ChangeRefcountWidthAsync(wanted.RefcountOrder, cancellationToken).ConfigureAwait(false);
            return LeftAfter(options, "refcount_bits");
        }

        await ChangeHeaderAsync(now => Amended(now, wanted), cancellationToken).ConfigureAwait(false);
        if (goesDown)
        {
            _checkpoint.GiveUp(ToReopen());
        }

        var rest = new NodeOptions();
        if (options.Has("size"))
        {
            rest = goesDown ? options : rest;
            rest["size"] = options["size"];
        }

        return rest;
    }

    // The key slots are no table: nothing in memory depends on them.
    private async ValueTask ChangeKeysAsync(LuksKeyChange change, EncryptionHeaderPointer pointer, CancellationToken cancellationToken)
    {
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            _checkpoint.ThrowIfBroken();
            await LuksKeyEditor.RunAsync(
                _storage, new((long)pointer.Offset), (long)pointer.Length, change, _password!(), cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _changing.Release();
        }
    }

    private static HeaderCluster Amended(HeaderCluster cluster, Qcow2AmendSettings wanted)
    {
        var header = cluster.Header;
        if (wanted.DataFile is { } name)
        {
            cluster = cluster with { DataFileName = Encoding.UTF8.GetBytes(name) };
        }

        if (wanted.Version == 2)
        {
            // Extensions of the header that only version 3 has go with it.
            return cluster with
            {
                Header = header with { Version = 2, Incompatible = 0, Compatible = 0, Autoclear = 0, CompressionType = CompressionType.Zlib },
                UnknownFields = default,
                FeatureNames = null,
                Bitmaps = null,
            };
        }

        return cluster with
        {
            Header = header with
            {
                Compatible = wanted.LazyRefcounts ? header.Compatible | CompatibleFeatures.LazyRefcounts : header.Compatible & ~CompatibleFeatures.LazyRefcounts,
                Autoclear = wanted.RawDataFile ? header.Autoclear : header.Autoclear & ~AutoclearFeatures.RawExternalData,
            },
        };
    }

    private async ValueTask GoUpAsync(CancellationToken cancellationToken)
    {
        if (_header.Header.SnapshotCount > 0)
        {
            await ShadowAsync(
                async state =>
                {
                    var (entries, raw) = await ReadSnapshotsAsync(state, cancellationToken).ConfigureAwait(false);
                    for (var i = 0; i < raw.Count; i++)
                    {
                        raw[i] = entries[i].WithExtraDataOfVersion3(raw[i], state.VirtualSize);
                    }

                    await WriteSnapshotsAsync(state, entries, raw, cancellationToken).ConfigureAwait(false);
                },
                cancellationToken).ConfigureAwait(false);
        }

        await ChangeHeaderAsync(
            cluster => cluster with { Header = cluster.Header with { Version = 3, RefcountOrder = 4, Incompatible = 0, Compatible = 0, Autoclear = 0 } },
            cancellationToken).ConfigureAwait(false);
    }

    // What version 2 cannot say becomes something that both versions can.
    private async ValueTask PrepareDownAsync(IProgress<double>? progress, CancellationToken cancellationToken)
    {
        await ShadowAsync(
            async state =>
            {
                var (entries, raw) = await ReadSnapshotsAsync(state, cancellationToken).ConfigureAwait(false);
                if (entries.Any(e => e.VmStateSize > uint.MaxValue || (e.DiskSize is { } size && size != (ulong)state.VirtualSize)))
                {
                    throw new BlockException(BlockErrorKind.InvalidRequest, "Internal snapshots prevent downgrade of image");
                }

                var tables = new List<ulong[]> { state.L1 };
                foreach (var entry in entries)
                {
                    tables.Add(await ReadL1Async(entry, cancellationToken).ConfigureAwait(false));
                }

                var before = tables.ConvertAll(table => table.ToArray());
                await ExpandZerosAsync(state, tables, progress, cancellationToken).ConfigureAwait(false);
                var moves = false;
                for (var i = 0; i < entries.Count; i++)
                {
                    if (!tables[i + 1].AsSpan().SequenceEqual(before[i + 1]))
                    {
                        state.Count((long)entries[i].L1TableOffset, (long)entries[i].L1Size * L1Entry.Size, raise: false);
                        var at = await state.WriteNewAsync(ShadowState.Bytes(tables[i + 1]), cancellationToken).ConfigureAwait(false);
                        System.Buffers.Binary.BinaryPrimitives.WriteUInt64BigEndian(raw[i], (ulong)at.Value);
                        moves = true;
                    }
                }

                state.L1 = tables[0];
                if (moves)
                {
                    await WriteSnapshotsAsync(state, entries, raw, cancellationToken).ConfigureAwait(false);
                }
            },
            cancellationToken).ConfigureAwait(false);
    }

    // Every L2 table once, however many L1 tables lead to it. One that changes gets a new place with as many references.
    private async ValueTask ExpandZerosAsync(ShadowState state, List<ulong[]> tables, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        var references = new Dictionary<long, List<(int Table, int Index)>>();
        for (var table = 0; table < tables.Count; table++)
        {
            for (var index = 0; index < tables[table].Length; index++)
            {
                var entry = new L1Entry(tables[table][index]);
                if (!entry.IsAbsent)
                {
                    if (!references.TryGetValue(entry.TableOffset.Value, out var list))
                    {
                        references.Add(entry.TableOffset.Value, list = []);
                    }

                    list.Add((table, index));
                }
            }
        }

        var done = 0;
        var words = new ulong[_geometry.ClusterSize / 8];
        foreach (var (at, list) in references)
        {
            cancellationToken.ThrowIfCancellationRequested();
            progress?.Report((double)done++ / references.Count);
            await state.ReadTableAsync(new((ulong)at), list[0].Index, words, cancellationToken).ConfigureAwait(false);
            var guest = new GuestOffset((long)list[0].Index << _geometry.GuestBytesPerL2Bits);
            if (!await ExpandTableAsync(state, words, guest, list.Count, cancellationToken).ConfigureAwait(false))
            {
                continue;
            }

            var place = await state.WriteNewAsync(ShadowState.Bytes(words), cancellationToken).ConfigureAwait(false);
            for (var i = 0; i < list.Count; i++)
            {
                state.Count(at, 1, raise: false);
                if (i > 0)
                {
                    state.Count(place.Value, 1, raise: true);
                }

                tables[list[i].Table][list[i].Index] = (ulong)place.Value | (list.Count == 1 && list[i].Table == 0 ? L1Entry.CopiedFlag : 0);
            }
        }
    }

    private async ValueTask<bool> ExpandTableAsync(ShadowState state, ulong[] words, GuestOffset guest, int references, CancellationToken cancellationToken)
    {
        var changed = false;
        for (var word = 0; word < words.Length; word++, guest += _geometry.ClusterSize)
        {
            var entry = new L2Entry(words[word]);
            if (entry.IsCompressed && _header.Header.CompressionType != CompressionType.Zlib)
            {
                throw new BlockException(
                    BlockErrorKind.InvalidRequest, $"Cannot downgrade an image with clusters that are compressed with {_header.Header.CompressionType.ToString().ToLowerInvariant()}");
            }

            if (entry.IsCompressed || !entry.IsZero)
            {
                continue;
            }

            // The old cluster, if there is one, stays as it is: somebody else may read it.
            for (var i = 0; i < references && (entry.Value & L2Entry.OffsetMask) != 0; i++)
            {
                state.Count(entry.Offset.Value, 1, raise: false);
            }

            words[word] = 0;
            changed = true;
            if (_hasBacking)
            {
                var at = await NewZerosAsync(state, guest, cancellationToken).ConfigureAwait(false);
                for (var i = 1; i < references; i++)
                {
                    state.Count(at.Value, 1, raise: true);
                }

                words[word] = (ulong)at.Value | (references == 1 ? L2Entry.CopiedFlag : 0);
            }
        }

        return changed;
    }

    private async ValueTask<HostOffset> NewZerosAsync(ShadowState state, GuestOffset guest, CancellationToken cancellationToken)
    {
        var zeros = new byte[_geometry.ClusterSize];
        if (_cipher is null)
        {
            return await state.WriteNewAsync(zeros, cancellationToken).ConfigureAwait(false);
        }

        // How they are encrypted depends on where they are.
        var at = await state.WriteNewAsync(zeros, cancellationToken).ConfigureAwait(false);
        _cipher.Encrypt(guest, at, zeros);
        await _storage.WriteAsync(at, zeros, cancellationToken).ConfigureAwait(false);
        return at;
    }

    private BlockException ToReopen() => new(BlockErrorKind.InvalidRequest, $"{_storage.Name}: the image has changed and must be opened again");

    // What is done may stay in the list, since doing it again does nothing; and it must, if only the size were left, which is the caller's to change at once.
    private static NodeOptions LeftAfter(NodeOptions options, string done) => Without(options, done) is { Keys.Count: 0 } nothing ? nothing : options;

    private static NodeOptions Without(NodeOptions options, string prefix)
    {
        var result = new NodeOptions();
        foreach (var key in options.Keys)
        {
            if (!key.StartsWith(prefix, StringComparison.Ordinal))
            {
                result[key] = options[key];
            }
        }

        return result;
    }
}
