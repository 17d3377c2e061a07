using System.Runtime.InteropServices;

namespace Platter.Host.Codecs;

/// <summary>What the compression library of .NET keeps of one stream: its own layout, not that of zlib.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct RuntimeStream
{
    public byte* NextIn;
    public byte* NextOut;
    public byte* Message;
    public void* State;
    public uint AvailableIn;
    public uint AvailableOut;
}
