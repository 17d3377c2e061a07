using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Options;

/// <summary>The <c>-o</c> options of a new image: every occurrence together, the last value of a key wins.</summary>
internal static class CreateOptions
{
    /// <summary>Parses all occurrences.</summary>
    /// <param name="texts">The arguments of <c>-o</c>.</param>
    /// <returns>The options; a lone word such as <c>help</c> is a key with a null value.</returns>
    public static NodeOptions Parse(IEnumerable<string> texts)
    {
        var result = new NodeOptions();
        foreach (var text in texts)
        {
            foreach (var (key, value) in NodeOptions.SplitKeyValues(text))
            {
                result[key] = value;
            }
        }

        return result;
    }

    /// <summary>Whether the user asks what options there are.</summary>
    public static bool AsksForHelp(NodeOptions options) => options.Has("help") || options.Has("?");

    /// <summary>What a raw image's options ask for.</summary>
    /// <returns>What space the file gets.</returns>
    /// <exception cref="UsageException">An option that raw images do not have.</exception>
    public static RawPreallocation PreallocationOf(NodeOptions options)
    {
        foreach (var key in options.Keys)
        {
            // size is decided by the source, and the others are hints to file systems: accepted as the peers accept them.
            if (key is not ("preallocation" or "size" or "nocow" or "extent_size_hint"))
            {
                throw new UsageException($"Invalid parameter '{SafeText.Clean(key, 64)}'");
            }
        }

        return !options.Has("preallocation") ? RawPreallocation.Off : options["preallocation"] switch
        {
            "off" => RawPreallocation.Off,
            "falloc" => RawPreallocation.Reserved,
            "full" => RawPreallocation.Full,
            var other => throw new UsageException($"invalid parameter value: {SafeText.Clean(other ?? "on", 64)}"),
        };
    }
}
