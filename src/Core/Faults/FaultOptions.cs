using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Faults;

/// <summary>The options of <c>blkdebug</c>, with QEMU's names: rules, and limits on requests.</summary>
public sealed record FaultOptions
{
    /// <summary>The driver's name.</summary>
    public const string Driver = "blkdebug";

    private const int MaxRules = 10_000;

    private static readonly string[] s_ofAnyStorage = ["driver", "node-name", "read-only", "auto-read-only", "discard", "detect-zeroes", "cache.direct", "cache.no-flush"];

    // Accepted without effect: nobody else shares our nodes, and storages are not told of discards.
    private static readonly string[] s_ignored = ["opt-discard", "max-discard"];

    /// <summary>The rules.</summary>
    public required FaultRules Rules { get; init; }

    /// <summary>Requests to the storage below start and end at multiples of this (bytes, a power of two).</summary>
    public int Align { get; init; } = 1;

    /// <summary>The longest request to the storage below, in bytes.</summary>
    public long MaxTransfer { get; init; } = long.MaxValue;

    /// <summary>Zeros that do not start and end at multiples of this are written as bytes.</summary>
    public long ZeroAlign { get; init; } = 1;

    /// <summary>The longest request for zeros, in bytes.</summary>
    public long MaxWriteZero { get; init; } = long.MaxValue;

    /// <summary>Reads options.</summary>
    /// <param name="options">Those of the driver; what is under <c>image</c> is left to the caller.</param>
    /// <param name="configuration">The text of the configuration file (<c>config</c>), or null.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: an option or a value that there is not.</exception>
    public static FaultOptions Parse(NodeOptions options, string? configuration)
    {
        var faults = new List<FaultRule>();
        var transitions = new List<FaultStateRule>();
        foreach (var (section, values) in FaultConfiguration.Parse(configuration ?? string.Empty))
        {
            Add(section, values, faults, transitions);
        }

        foreach (var key in options.Keys)
        {
            if (key is "config" or "image" || key.StartsWith("image.", StringComparison.Ordinal) || s_ofAnyStorage.Contains(key) || s_ignored.Contains(key)
                || key is "align" or "max-transfer" or "opt-write-zero" or "max-write-zero" || IsPermission(key) || IsRule(key))
            {
                continue;
            }

            throw Invalid($"Block protocol '{Driver}' doesn't support the option '{SafeText.Clean(key, 64)}'");
        }

        foreach (var section in new[] { "inject-error", "set-state" })
        {
            for (var i = 0; options.HasChild(Key(section, i)); i++)
            {
                if (i >= MaxRules)
                {
                    throw Invalid($"more than {MaxRules} rules");
                }

                Add(section, options.Child(Key(section, i)), faults, transitions);
            }
        }

        var align = Number(options, "align", 0) ?? 0;
        if (align != 0 && (align > 1 << 30 || !long.IsPow2(align)))
        {
            throw Invalid($"Cannot meet constraints with align {align}");
        }

        align = Math.Max(align, 1);
        return new()
        {
            Rules = new(faults, transitions),
            Align = (int)align,
            MaxTransfer = Limit(options, "max-transfer", align, align) ?? long.MaxValue,
            ZeroAlign = Limit(options, "opt-write-zero", align, 1) ?? align,
            MaxWriteZero = Limit(options, "max-write-zero", align, align) ?? long.MaxValue,
        };
    }

    private static bool IsRule(string key) =>
        key.StartsWith("inject-error.", StringComparison.Ordinal) || key.StartsWith("set-state.", StringComparison.Ordinal);

    private static bool IsPermission(string key) =>
        key.StartsWith("take-child-perms.", StringComparison.Ordinal) || key.StartsWith("unshare-child-perms.", StringComparison.Ordinal);

    private static string Key(string section, int index) => string.Create(CultureInfo.InvariantCulture, $"{section}.{index}");

    private static long? Limit(NodeOptions options, string key, long align, long least)
    {
        if (Number(options, key, 0) is not { } value || value == 0)
        {
            return null;
        }

        return value >= least && value % align == 0 ? value : throw Invalid($"Cannot meet constraints with {key} {value}");
    }

    private static void Add(string section, NodeOptions values, List<FaultRule> faults, List<FaultStateRule> transitions)
    {
        var isFault = section == "inject-error";
        if (!isFault && section != "set-state")
        {
            throw Invalid($"There is no option group '{SafeText.Clean(section, 64)}'");
        }

        foreach (var key in values.Keys)
        {
            if (!(key is "event" or "state" || (isFault ? key is "errno" or "sector" or "once" or "immediately" or "iotype" : key == "new_state")))
            {
                throw Invalid($"[{section}] section doesn't support the option '{SafeText.Clean(key, 64)}'");
            }
        }

        var what = Event(values["event"] ?? throw Invalid("Missing event name for rule"));
        var state = (int)(Number(values, "state", 0, int.MaxValue) ?? 0);
        if (!isFault)
        {
            transitions.Add(new(what, state, (int)(Number(values, "new_state", 0, int.MaxValue) ?? 0)));
            return;
        }

        faults.Add(new()
        {
            Event = what,
            State = state,
            ErrorNumber = (int)(Number(values, "errno", 1, 4095) ?? 5),
            Sector = Number(values, "sector", -1) ?? -1,
            Once = values.GetSwitch("once", false),
            Immediately = values.GetSwitch("immediately", false),
            Targets = values["iotype"] switch
            {
                null => FaultTargets.Default,
                "read" => FaultTargets.Read,
                "write" => FaultTargets.Write,
                "write-zeroes" => FaultTargets.WriteZeroes,
                "discard" => FaultTargets.Discard,
                "flush" => FaultTargets.Flush,
                "block-status" => FaultTargets.Map,
                var other => throw Invalid($"invalid parameter value: {SafeText.Clean(other, 64)}"),
            },
        });
    }

    /// <summary>The event of a name: <c>l2_update</c>.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: there is none.</exception>
    public static StorageEvent Event(string name)
    {
        foreach (var value in Enum.GetValues<StorageEvent>())
        {
            if (IsName(name, value.ToString()))
            {
                return value;
            }
        }

        throw Invalid($"invalid parameter value: {SafeText.Clean(name, 64)}");
    }

    // L1GrowAllocTable is l1_grow_alloc_table.
    private static bool IsName(string name, string member)
    {
        var at = 0;
        for (var i = 0; i < member.Length; i++)
        {
            if (i > 0 && char.IsAsciiLetterUpper(member[i]) && (at >= name.Length || name[at++] != '_'))
            {
                return false;
            }

            if (at >= name.Length || name[at++] != char.ToLowerInvariant(member[i]))
            {
                return false;
            }
        }

        return at == name.Length;
    }

    private static long? Number(NodeOptions options, string key, long least, long most = long.MaxValue)
    {
        if (options[key] is not { } text)
        {
            return null;
        }

        var isNumber = long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var value)
            || (!text.StartsWith('-') && SizeNumber.Parse(text, out value) == SizeNumber.Outcome.Ok);
        return isNumber && value >= least && value <= most ? value : throw Invalid($"Parameter '{key}' expects a number from {least} to {most}");
    }

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);
}
