namespace Platter.Tests.Fuzz;

/// <summary>What a client says to a server, from the first byte to the last, right or slightly wrong. Written from the protocol's description.</summary>
internal static class NbdClientBytes
{
    private const ulong OptionMagic = 0x49484156454F5054, RequestMagic = 0x25609513, ExtendedMagic = 0x21e41c71;
    private const int ExportName = 1, Abort = 2, List = 3, StartTls = 5, Info = 6, Go = 7, StructuredReply = 8, ListMeta = 9, SetMeta = 10, ExtendedHeaders = 11;
    private const int Read = 0, Write = 1, Disconnect = 2, Flush = 3, Trim = 4, Cache = 5, WriteZeroes = 6, BlockStatus = 7;
    private const int PayloadLength = 32;

    /// <summary>A whole conversation.</summary>
    /// <param name="random">Decides.</param>
    /// <param name="oneIn">One field in so many is broken; 0 for none.</param>
    /// <param name="diskBytes">Size of the export.</param>
    public static byte[] Make(Random random, int oneIn, long diskBytes)
    {
        var writer = new MutatingWriter(random, oneIn);
        writer.U32(3);
        var extended = false;
        for (var count = random.Next(5); count > 0; count--)
        {
            Option(writer, random);
        }

        if (random.Next(10) == 0)
        {
            Header(writer, ExportName, writer.Text([]));
        }
        else if (random.Next(10) != 0)
        {
            var style = random.Next(3);
            extended = style == 2;
            if (style != 0)
            {
                Header(writer, extended ? ExtendedHeaders : StructuredReply, []);
                Header(writer, SetMeta, MetaQuery(random, oneIn));
            }

            Header(writer, Go, ExportQuery(random, oneIn));
        }

        for (var count = random.Next(8); count > 0; count--)
        {
            Request(writer, random, diskBytes, extended);
        }

        if (random.Next(2) == 0)
        {
            RequestHeader(writer, extended, 0, Disconnect, 99, 0, 0);
        }

        return writer.Take();
    }

    private static void Option(MutatingWriter writer, Random random)
    {
        var option = random.Next(10) switch
        {
            0 => List,
            1 => Info,
            2 => ListMeta,
            3 => SetMeta,
            4 => StructuredReply,
            5 => StartTls,
            6 => ExtendedHeaders,
            7 => 99,
            8 => random.Next(5) == 0 ? Abort : List,
            _ => 4,
        };
        Header(writer, option, option switch
        {
            Info => ExportQuery(random, 0),
            ListMeta or SetMeta => MetaQuery(random, 0),
            99 => new byte[random.Next(5000)],
            _ => random.Next(6) == 0 ? new byte[random.Next(20)] : [],
        });
    }

    private static void Header(MutatingWriter writer, int option, byte[] data) => writer.U64(OptionMagic).U32((ulong)option).Counted(data);

    private static byte[] ExportQuery(Random random, int oneIn)
    {
        var writer = new MutatingWriter(random, oneIn);
        writer.Counted(writer.Text([])).U16(2).U16(1).U16(3);
        return writer.Take();
    }

    private static byte[] MetaQuery(Random random, int oneIn)
    {
        var writer = new MutatingWriter(random, oneIn);
        writer.Counted(writer.Text([])).U32(1).Counted(writer.Text("base:allocation"u8));
        return writer.Take();
    }

    private static void Request(MutatingWriter writer, Random random, long diskBytes, bool extended)
    {
        int[] types = [Read, Read, Read, BlockStatus, Write, Flush, Trim, Cache, WriteZeroes, 8, 0xffff];
        var type = types[random.Next(types.Length)];
        var length = type == Flush ? 0 : random.Next(1, 70_000);
        var offset = type == Flush ? 0 : random.NextInt64(diskBytes);
        var flags = random.Next(4) == 0 ? 1 << random.Next(6) : 0;
        if (extended && (type == Write || random.Next(10) == 0))
        {
            flags |= PayloadLength;
        }

        var isLong = extended && type is Trim or WriteZeroes or BlockStatus && random.Next(4) == 0;
        RequestHeader(writer, extended, flags, type, random.NextInt64(), offset, isLong ? random.NextInt64() : length);
        if (type == Write || (extended && (flags & PayloadLength) != 0 && !isLong))
        {
            writer.Raw(new byte[length]);
        }
    }

    private static void RequestHeader(MutatingWriter writer, bool extended, int flags, int type, long cookie, long offset, long length)
    {
        writer.U32(extended ? ExtendedMagic : RequestMagic).U16((ulong)flags).U16((ulong)type).U64((ulong)cookie).U64((ulong)offset);
        _ = extended ? writer.U64((ulong)length) : writer.U32((ulong)length);
    }
}
