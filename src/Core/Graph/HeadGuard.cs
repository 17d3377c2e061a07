using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Graph;

/// <summary>Keeps a disk that was only taken for raw, because nobody said what it is, from being made look like something else.</summary>
/// <remarks>Otherwise a guest could write an image's header into its own disk, and whoever opens that without a format the next time would follow what the header names
/// (CVE-2008-2004). Writes to the bytes that formats are recognised by are done one after the other. Thread-safe.</remarks>
internal sealed class HeadGuard(FormatRegistry formats, Storage storage) : IDisposable
{
    private readonly SemaphoreSlim _gate = new(1);

    /// <summary>Whether a write that begins here must ask.</summary>
    public static bool Concerns(GuestOffset at) => at.Value < FormatRegistry.ProbeBytes;

    /// <summary>Lets a write pass, alone among those that must ask, until the result is disposed.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotAllowed"/>: the disk would then pass for an image.</exception>
    public async ValueTask<IDisposable> EnterAsync(GuestOffset at, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        await _gate.WaitAsync(cancellationToken).ConfigureAwait(false);
        var pass = new Pass(_gate);
        try
        {
            var head = new byte[FormatRegistry.ProbeBytes];
            await storage.ReadAsync(HostOffset.Zero, head, cancellationToken).ConfigureAwait(false);
            bytes.Span[..(int)Math.Min(bytes.Length, head.Length - at.Value)].CopyTo(head.AsSpan((int)at.Value));
            var name = formats.Probe(head).Name;
            var bundle = formats.Bundles.FirstOrDefault(bundle => bundle.IsDescriptor(Path.GetFileName(storage.Name), head));
            if (name != "raw" || bundle is not null)
            {
                throw new BlockException(
                    BlockErrorKind.NotAllowed,
                    $"{storage.Name}: a write of {bytes.Length} bytes at {at} was refused: the disk would look like {bundle?.Name ?? name}, and nobody has said that it is raw (-f raw does)");
            }

            return pass;
        }
        catch
        {
            pass.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _gate.Dispose();

    private sealed class Pass(SemaphoreSlim gate) : IDisposable
    {
        public void Dispose() => gate.Release();
    }
}
