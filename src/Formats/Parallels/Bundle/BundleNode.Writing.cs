using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Parallels.Bundle.Editing;

namespace Platter.Formats.Parallels.Bundle;

// The writing half: a request goes to the current state's image of each storage that it touches, and to nothing else. A change of the snapshots or of the size waits for
// every request under way, closes all images, changes the files, and opens what is there then.
internal sealed partial class BundleNode
{
    private readonly RequestTracker _requests = new();
    private bool _isClosed;

    /// <inheritdoc/>
    public override bool IsReadOnly { get; }

    /// <summary>The largest unit of the storages' images.</summary>
    public override long AllocationUnit => IsReadOnly || Segments.Count == 0 ? 1 : Segments.Max(segment => segment.Node.AllocationUnit);

    /// <inheritdoc/>
    public override ValueTask ReadAsync(GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (IsReadOnly)
        {
            return base.ReadAsync(at, buffer, cancellationToken);
        }

        // Through the segments' own nodes, which keep a reader and a writer of one range apart.
        return ForEachPartAsync(
            at,
            buffer.Length,
            async (segment, within, done, count) =>
            {
                var part = buffer.Slice((int)done, (int)count);
                var stored = (int)Math.Clamp(segment.Node.VirtualSize - within.Value, 0, count);
                part.Span[stored..].Clear();
                await segment.Node.ReadAsync(within, part[..stored], cancellationToken).ConfigureAwait(false);
            },
            cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        GuestOffset at, ReadOnlyMemory<byte> buffer, WriteFlags flags = WriteFlags.None, CancellationToken cancellationToken = default) =>
        ForEachPartAsync(
            Writable(at),
            buffer.Length,
            (segment, within, done, count) => segment.Node.WriteAsync(within, buffer.Slice((int)done, (int)count), flags, cancellationToken),
            cancellationToken);

    /// <inheritdoc/>
    public override ValueTask WriteZeroesAsync(
        GuestOffset at, long length, WriteFlags flags = WriteFlags.None, CancellationToken cancellationToken = default) =>
        ForEachPartAsync(
            Writable(at), length, (segment, within, _, count) => segment.Node.WriteZeroesAsync(within, count, flags, cancellationToken), cancellationToken);

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(GuestOffset at, long length, CancellationToken cancellationToken = default) =>
        ForEachPartAsync(
            Writable(at), length, (segment, within, _, count) => segment.Node.DiscardAsync(within, count, cancellationToken), cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask FlushAsync(CancellationToken cancellationToken = default)
    {
        using (await SharedAsync(cancellationToken).ConfigureAwait(false))
        {
            foreach (var segment in Segments)
            {
                await segment.Node.FlushAsync(cancellationToken).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Takes a snapshot of the current state, which goes on in new, empty images. Wholly or not at all.</summary>
    public override ValueTask CreateSnapshotAsync(string name, DateTimeOffset date, CancellationToken cancellationToken = default) =>
        EditAsync(edit => SnapshotEdits.CreateAsync(edit, name, date, cancellationToken), cancellationToken);

    /// <summary>Lets the current state go on from a snapshot; what it was is lost. Wholly or not at all.</summary>
    public override ValueTask ApplySnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken = default) =>
        EditAsync(edit => SnapshotEdits.ApplyAsync(edit, Choose(selector), cancellationToken), cancellationToken);

    /// <summary>Forgets a snapshot, wholly or not at all, and then gives up its space, if nothing but the state above it needs it.</summary>
    public override ValueTask DeleteSnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken = default) =>
        EditAsync(edit => SnapshotEdits.DeleteAsync(edit, Choose(selector), cancellationToken), cancellationToken);

    /// <summary>Makes the snapshot under the current state what the current state is, wholly or not at all; then gives up the space of what it was.</summary>
    public override ValueTask CommitAsync(IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        EditAsync(edit => SnapshotEdits.CommitAsync(edit, progress, cancellationToken), cancellationToken);

    /// <inheritdoc/>
    public override ValueTask ResizeAsync(long virtualSize, ResizePreallocation preallocation, CancellationToken cancellationToken = default) =>
        EditAsync(edit => SizeEdit.ResizeAsync(edit, virtualSize, preallocation, cancellationToken), cancellationToken);

    /// <summary>Hides the descriptor, so that nobody takes the disk for a whole one, or shows it again: then every image has been closed, and the disk has to be opened anew.</summary>
    public override async ValueTask<bool> SetUnfinishedAsync(bool unfinished, CancellationToken cancellationToken = default)
    {
        Writable(default);
        using (await _requests.EnterAsync(0, 1, exclusive: true, cancellationToken).ConfigureAwait(false))
        {
            var (from, to) = unfinished ? (BundleFiles.DescriptorName, BundleFiles.UnfinishedName) : (BundleFiles.UnfinishedName, BundleFiles.DescriptorName);
            if (!unfinished)
            {
                // Closed as they should be, so that from the moment when the disk can be found it is whole, and belongs to whoever finds it.
                await CloseSegmentsAsync().ConfigureAwait(false);
                _state = _state with { Segments = [] };
            }

            if (_location.Disk.FileExists(from))
            {
                await _location.Disk.RenameFileAsync(from, to, cancellationToken).ConfigureAwait(false);
                await _location.Disk.SynchroniseAsync(cancellationToken).ConfigureAwait(false);
            }
        }

        return true;
    }

    /// <inheritdoc/>
    /// <remarks>Every image is closed as it should be: its last changes go to the disk, and errors of that come from here.</remarks>
    public override async ValueTask DisposeAsync()
    {
        if (!_isClosed)
        {
            _isClosed = true;
            await CloseSegmentsAsync().ConfigureAwait(false);
        }

        GC.SuppressFinalize(this);
    }

    private GuestOffset Writable(GuestOffset at) => IsReadOnly ? throw NotWritable() : at;

    private DescriptorShot Choose(SnapshotSelector selector)
    {
        var text = selector.IdOrName ?? selector.Id ?? selector.Name ?? string.Empty;
        return BundleOpener.Choose(text, _state.Tree, _state.Names, Name);
    }

    private ValueTask<RequestTracker.Hold> SharedAsync(CancellationToken cancellationToken) => _requests.EnterAsync(0, 1, exclusive: false, cancellationToken);

    private async ValueTask ForEachPartAsync(
        GuestOffset at, long length, Func<BundleSegment, GuestOffset, long, long, ValueTask> action, CancellationToken cancellationToken)
    {
        using (await SharedAsync(cancellationToken).ConfigureAwait(false))
        {
            ThrowIfOutside(at, length);
            for (long done = 0; done < length;)
            {
                var segment = SegmentAt(at + done);
                var count = Math.Min(length - done, segment.End - (at.Value + done));
                await action(segment, new GuestOffset(at.Value + done - segment.Start), done, count).ConfigureAwait(false);
                done += count;
            }
        }
    }

    private async ValueTask EditAsync(Func<BundleEdit, ValueTask> change, CancellationToken cancellationToken)
    {
        Writable(default);
        using (await _requests.EnterAsync(0, 1, exclusive: true, cancellationToken).ConfigureAwait(false))
        {
            // Closed as they should be: what a snapshot freezes must not look like an image that somebody writes to.
            await CloseSegmentsAsync().ConfigureAwait(false);
            _state = _state with { Segments = [] };
            try
            {
                var edit = await BundleEdit.OpenAsync(_location, _context, cancellationToken).ConfigureAwait(false);
                await using (edit.ConfigureAwait(false))
                {
                    await change(edit).ConfigureAwait(false);
                }
            }
            finally
            {
                Adopt(await BundleOpener.ReopenAsync(_location, _context, CancellationToken.None).ConfigureAwait(false));
            }
        }
    }

    private async ValueTask CloseSegmentsAsync()
    {
        Exception? first = null;
        foreach (var segment in Segments)
        {
            try
            {
                await segment.Node.DisposeAsync().ConfigureAwait(false);
            }
            catch (BlockException e)
            {
                // The others are closed all the same.
                first ??= e;
            }
        }

        if (first is not null)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(first);
        }
    }
}
