using System.Collections.Concurrent;
using Platter.Nbd.Protocol;

namespace Platter.Tests.Unit.Nbd.Client;

/// <summary>An export that is an array: keeps the protocol's rules, and notes who does not.</summary>
internal sealed class ArrayServer(int size)
{
    public byte[] Bytes { get; } = new byte[size];

    public bool Extended { get; init; }

    public uint Minimum { get; init; } = 1;

    public uint Maximum { get; init; } = 32 << 20;

    public NbdTransmissionFlags Flags { get; init; } = NbdTransmissionFlags.HasFlags;

    /// <summary>Longest request without payload; longer ones are EINVAL.</summary>
    public ulong MaxEffect { get; init; } = ulong.MaxValue;

    /// <summary>A command that always fails.</summary>
    public NbdCommand? Fails { get; set; }

    public NbdError Error { get; init; } = NbdError.IO;

    /// <summary>What clients are told, if it is not the truth.</summary>
    public long? AdvertisedSize { get; set; }

    public bool RefusesFastZero { get; set; }

    /// <summary>What survives a crash: the bytes as of the last flush, and writes with FUA.</summary>
    public byte[] Durable { get; } = new byte[size];

    /// <summary>Asked before a request is done: whether the connection ends there.</summary>
    public Func<NbdRequest, bool> DropsBefore { get; set; } = static _ => false;

    /// <summary>Asked after a request was done and before it is answered: whether the connection ends there.</summary>
    public Func<NbdRequest, bool> DropsAfter { get; set; } = static _ => false;

    /// <summary>Connections that were let in.</summary>
    public int Connections => Volatile.Read(ref _connections);

    private int _connections;

    /// <summary>All requests, in order of arrival.</summary>
    public ConcurrentQueue<NbdRequest> Requests { get; } = [];

    /// <summary>Requests that break a rule.</summary>
    public ConcurrentQueue<string> Illegal { get; } = [];

    public ScriptedServer Serve(bool parallel = false) => new(ServeAsync, parallel: parallel);

    /// <summary>Forgets what was not flushed.</summary>
    public void Crash()
    {
        lock (Durable)
        {
            Durable.CopyTo(Bytes, 0);
        }
    }

    public async Task ServeAsync(ScriptedPeer peer)
    {
        Interlocked.Increment(ref _connections);
        await peer.EnterAsync((ulong)(AdvertisedSize ?? Bytes.Length), blockSizes: ScriptedPeer.BlockSizeInfo(Minimum, Math.Max(512, Minimum), Maximum), extended: Extended, flags: Flags);
        while (true)
        {
            var request = await peer.ReadRequestAsync();
            Requests.Enqueue(request);
            var payload = await peer.ReadPayloadAsync(request);
            if (DropsBefore(request))
            {
                return;
            }

            await AnswerAsync(peer, request, payload);
        }
    }

    private Task AnswerAsync(ScriptedPeer peer, NbdRequest request, byte[] payload)
    {
        var cookie = request.Cookie;
        if (!IsLegal(request))
        {
            Illegal.Enqueue($"{request}");
            return peer.ErrorAsync(cookie, NbdError.Inval, "illegal");
        }

        if (request.Command == Fails)
        {
            return peer.ErrorAsync(cookie, Error, "as told");
        }

        var (at, length) = ((int)request.Offset, (int)request.Length);
        lock (Durable)
        {
            switch (request.Command)
            {
                case NbdCommand.Read:
                    var bytes = Bytes[at..(at + length)];
                    return DropsAfter(request) ? throw new EndOfStreamException() : peer.DataAsync(cookie, request.Offset, bytes);
                case NbdCommand.BlockStatus:
                    return peer.StatusAsync(cookie, [.. Extents(at, length)]);
                case NbdCommand.Write:
                    payload.CopyTo(Bytes, at);
                    break;
                case NbdCommand.WriteZeroes when request.Length > MaxEffect:
                    return peer.ErrorAsync(cookie, NbdError.Inval, "too long");
                case NbdCommand.WriteZeroes when RefusesFastZero && (request.Flags & NbdCommandFlags.FastZero) != 0:
                    return peer.ErrorAsync(cookie, NbdError.NotSup, "slow");
                case NbdCommand.WriteZeroes:
                    Bytes.AsSpan(at, length).Clear();
                    break;
                case NbdCommand.Flush:
                    Bytes.CopyTo(Durable, 0);
                    break;
            }

            if ((request.Flags & NbdCommandFlags.Fua) != 0)
            {
                Bytes.AsSpan(at, length).CopyTo(Durable.AsSpan(at));
            }
        }

        return DropsAfter(request) ? throw new EndOfStreamException() : peer.DoneAsync(cookie);
    }

    private IEnumerable<(ulong Length, ulong State)> Extents(int at, int length)
    {
        for (var end = at + length; at < end;)
        {
            var rest = Bytes.AsSpan(at, end - at);
            var isZero = rest[0] == 0;
            var count = isZero ? rest.IndexOfAnyExcept((byte)0) : rest.IndexOf((byte)0);
            count = count < 0 ? rest.Length : count;
            at += count;
            yield return ((ulong)count, isZero ? 3u : 0);
        }
    }

    private bool IsLegal(NbdRequest request)
    {
        if (request.Command == NbdCommand.Flush)
        {
            return request is { Offset: 0, Length: 0 } && Has(NbdTransmissionFlags.SendFlush);
        }

        var end = request.Offset + request.Length;
        var isFlagged = (request.Flags & NbdCommandFlags.Fua) == 0 || Has(NbdTransmissionFlags.SendFua);
        isFlagged &= Extended == (request.Command == NbdCommand.Write && (request.Flags & NbdCommandFlags.PayloadLength) != 0) || request.Command != NbdCommand.Write;
        return isFlagged && request.Length > 0 && end <= (ulong)Bytes.Length && request.Offset % Minimum == 0 && (end % Minimum == 0 || end == (ulong)Bytes.Length)
            && request.Command switch
            {
                NbdCommand.Read => request.Length <= Maximum,
                NbdCommand.Write => request.Length <= Maximum && !Has(NbdTransmissionFlags.ReadOnly),
                NbdCommand.WriteZeroes => Has(NbdTransmissionFlags.SendWriteZeroes),
                NbdCommand.Trim => Has(NbdTransmissionFlags.SendTrim),
                NbdCommand.Cache => Has(NbdTransmissionFlags.SendCache),
                _ => true,
            };
    }

    private bool Has(NbdTransmissionFlags flag) => (Flags & flag) != 0;
}
