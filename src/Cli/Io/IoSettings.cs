using Platter.Cli.Options;
using Platter.Core.Errors;

namespace Platter.Cli.Io;

/// <summary>Cache, discard and AIO modes, as QEMU's tools name them.</summary>
internal static class IoSettings
{
    /// <summary>Puts them into how a disk is opened; null leaves a mode as it is.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: there is no such mode.</exception>
    public static IoOpening Apply(IoOpening opening, string? cache, string? discard, string? aio)
    {
        if (cache is not null && !CommonOptions.IsCacheMode(cache))
        {
            throw Invalid("cache", cache);
        }

        if (aio is not (null or "threads" or "native" or "io_uring"))
        {
            throw Invalid("aio", aio);
        }

        return opening with
        {
            WritesThrough = cache is null ? opening.WritesThrough : cache is "writethrough" or "directsync",
            IgnoresDiscards = discard switch
            {
                null => opening.IgnoresDiscards,
                "ignore" or "off" => true,
                "unmap" or "on" => false,
                _ => throw Invalid("discard", discard),
            },
        };
    }

    private static BlockException Invalid(string what, string value) =>
        new(BlockErrorKind.InvalidRequest, $"Invalid {what} option: {SafeText.Clean(value, 64)}");
}
