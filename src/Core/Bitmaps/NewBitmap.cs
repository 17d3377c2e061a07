namespace Platter.Core.Bitmaps;

/// <summary>A persistent dirty bitmap that is to be added to an image.</summary>
/// <param name="Name">1 to 1023 bytes of UTF-8; no other bitmap of the image has it.</param>
/// <param name="Granularity">Guest bytes that one bit stands for: a power of two from 512 to 2 GiB; null for the format's default.</param>
/// <param name="Enabled">Whether writes are tracked into it from now on.</param>
/// <param name="Content">What is dirty in it from the beginning, in any order; null for nothing.</param>
public sealed record NewBitmap(string Name, long? Granularity = null, bool Enabled = true, IAsyncEnumerable<DirtyRange>? Content = null);
