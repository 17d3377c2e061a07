using System.Globalization;
using Platter.Core.Errors;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;

namespace Platter.Cli.Output;

/// <summary>The exports of a server as <c>qemu-nbd --list</c> prints them.</summary>
internal static class PeerExportList
{
    // Longest text of the protocol.
    private const int NbdText = 4096;

    // In the peer's order, which is that of the bits.
    private static readonly (NbdTransmissionFlags Flag, string Word)[] s_words =
    [
        (NbdTransmissionFlags.ReadOnly, "readonly"), (NbdTransmissionFlags.SendFlush, "flush"), (NbdTransmissionFlags.SendFua, "fua"),
        (NbdTransmissionFlags.Rotational, "rotational"), (NbdTransmissionFlags.SendTrim, "trim"), (NbdTransmissionFlags.SendWriteZeroes, "zeroes"),
        (NbdTransmissionFlags.SendDf, "df"), (NbdTransmissionFlags.CanMultiConn, "multi"), (NbdTransmissionFlags.SendResize, "resize"),
        (NbdTransmissionFlags.SendCache, "cache"), (NbdTransmissionFlags.SendFastZero, "fast-zero"), (NbdTransmissionFlags.BlockStatusPayload, "block-status-payload"),
    ];

    /// <summary>Prints them.</summary>
    public static void Write(TextWriter output, NbdServerInfo server)
    {
        output.Write($"exports available: {server.Exports.Count}\n");
        foreach (var export in server.Exports)
        {
            Write(output, server, export);
        }
    }

    private static void Write(TextWriter output, NbdServerInfo server, NbdExportDescription export)
    {
        output.Write($" export: '{SafeText.Clean(export.Name, NbdText)}'\n");
        if (export.Description.Length > 0)
        {
            output.Write($"  description: {SafeText.Clean(export.Description, NbdText)}\n");
        }

        if (export.Size is not { } size)
        {
            return;
        }

        output.Write(string.Create(CultureInfo.InvariantCulture, $"  size:  {size}\n"));
        var words = string.Concat(s_words.Where(word => (export.Flags & word.Flag) != 0).Select(word => $" {word.Word}"));
        output.Write(string.Create(CultureInfo.InvariantCulture, $"  flags: 0x{(ushort)export.Flags:x} ({words} )\n"));
        if (export.BlockSizes is { } sizes)
        {
            output.Write(string.Create(CultureInfo.InvariantCulture, $"  min block: {sizes.Minimum}\n  opt block: {sizes.Preferred}\n  max block: {sizes.Maximum}\n"));
        }

        if (server.HasExtendedHeaders)
        {
            output.Write("  transaction size: 64-bit\n");
        }

        if (export.Contexts.Count > 0)
        {
            output.Write(string.Create(CultureInfo.InvariantCulture, $"  available meta contexts: {export.Contexts.Count}\n"));
        }

        foreach (var context in export.Contexts)
        {
            output.Write($"   {SafeText.Clean(context, NbdText)}\n");
        }
    }
}
