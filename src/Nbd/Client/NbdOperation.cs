using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>What is asked of a server; the same on whichever connection it goes out.</summary>
/// <param name="Command">What to do.</param>
/// <param name="Offset">Where on the export, in bytes.</param>
/// <param name="Length">How much of it, in bytes. At most 32 bits unless headers are extended.</param>
internal readonly record struct NbdOperation(NbdCommand Command, long Offset, long Length)
{
    /// <summary>How.</summary>
    public NbdCommandFlags Flags { get; init; }

    /// <summary>Where the data of a read go; <see cref="Length"/> bytes.</summary>
    public Memory<byte> Buffer { get; init; }

    /// <summary>What a write writes; <see cref="Length"/> bytes.</summary>
    public ReadOnlyMemory<byte> Payload { get; init; }

    /// <summary>Which of the contexts that were selected a status request is about; null for all.</summary>
    public int? OnlyContext { get; init; }

    /// <summary>Into a buffer.</summary>
    public static NbdOperation Read(long offset, Memory<byte> buffer) => new(NbdCommand.Read, offset, buffer.Length) { Buffer = buffer };

    /// <summary>From a buffer.</summary>
    public static NbdOperation Write(long offset, ReadOnlyMemory<byte> payload, NbdCommandFlags flags = NbdCommandFlags.None) =>
        new(NbdCommand.Write, offset, payload.Length) { Payload = payload, Flags = flags };

    /// <summary>For messages: "read 512 bytes at 4096".</summary>
    public string Describe() => Command switch
    {
        NbdCommand.Read => $"read {Length} bytes at {Offset}",
        NbdCommand.Write => $"write {Length} bytes at {Offset}",
        NbdCommand.Flush => "flush",
        NbdCommand.Trim => $"discard {Length} bytes at {Offset}",
        NbdCommand.Cache => $"prefetch {Length} bytes at {Offset}",
        NbdCommand.WriteZeroes => $"write {Length} zeros at {Offset}",
        NbdCommand.BlockStatus => $"get the block status of {Length} bytes at {Offset}",
        _ => $"do {Command} of {Length} bytes at {Offset}",
    };
}
