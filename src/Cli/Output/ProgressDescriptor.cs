using System.Globalization;
using Microsoft.Win32.SafeHandles;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Operations.Copy;

namespace Platter.Cli.Output;

/// <summary>Tells another program how far it is, as nbdcopy does: lines <c>N/100</c> on a descriptor that was inherited.</summary>
/// <remarks>May be told from any thread. Whoever reads along may stop: the work goes on.</remarks>
internal sealed class ProgressDescriptor : IProgress<CopyProgress>, IDisposable
{
    private readonly Lock _gate = new();
    private readonly FileStream _stream;
    private int _told;

    private ProgressDescriptor(FileStream stream) => _stream = stream;

    /// <summary>Takes the descriptor.</summary>
    /// <exception cref="UsageException">It is no number, or nothing can be written to it.</exception>
    public static ProgressDescriptor Open(string text)
    {
        try
        {
            var stream = new FileStream(new SafeFileHandle(int.Parse(text, NumberStyles.None, CultureInfo.InvariantCulture), ownsHandle: false), FileAccess.Write, bufferSize: 0);
            stream.Write("0/100\n"u8);
            return new(stream);
        }
        catch (Exception e) when (e is FormatException or OverflowException or IOException or ArgumentException or UnauthorizedAccessException)
        {
            throw new UsageException($"Invalid --progress '{SafeText.Clean(text, 64)}': expected the number of a descriptor that is open for writing");
        }
    }

    /// <inheritdoc/>
    public void Report(CopyProgress value)
    {
        var hundredths = value.Total == 0 ? 100 : (int)(value.Done * 100.0 / value.Total);
        if (hundredths <= Volatile.Read(ref _told))
        {
            return;
        }

        lock (_gate)
        {
            if (hundredths > _told)
            {
                _told = hundredths;
                try
                {
                    _stream.Write(System.Text.Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{hundredths}/100\n")));
                }
                catch (IOException)
                {
                    _told = int.MaxValue;
                }
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();
}
