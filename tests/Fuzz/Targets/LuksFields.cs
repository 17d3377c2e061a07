namespace Platter.Tests.Fuzz;

/// <summary>The LUKS1 header: name, offset from its start, size; all big-endian.</summary>
internal static class LuksFields
{
    public static IReadOnlyList<(string Name, int At, int Size)> All { get; } =
    [
        ("LUKS magic", 0, 4),
        ("LUKS version", 6, 2),
        ("LUKS cipher-name", 8, 1),
        ("LUKS cipher-mode", 40, 1),
        ("LUKS hash-spec", 72, 1),
        ("LUKS payload-offset", 104, 4),
        ("LUKS key-bytes", 108, 4),
        ("LUKS mk-digest-iter", 164, 4),
        .. Enumerable.Range(0, 8).SelectMany(slot => new (string, int, int)[]
        {
            ($"LUKS active of key slot {slot}", 208 + (48 * slot), 4),
            ($"LUKS iterations of key slot {slot}", 212 + (48 * slot), 4),
            ($"LUKS key-material-offset of key slot {slot}", 248 + (48 * slot), 4),
            ($"LUKS stripes of key slot {slot}", 252 + (48 * slot), 4),
        }),
    ];
}
