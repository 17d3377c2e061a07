using System.Globalization;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Who refers to a cluster: becomes text only when there is something to say, since there are millions of them.</summary>
internal readonly record struct Referrer
{
    private readonly string? _structure;
    private readonly long _number;

    private Referrer(string? structure, long number)
    {
        _structure = structure;
        _number = number;
    }

    /// <summary>A structure as a whole.</summary>
    public static Referrer Structure(string name) => new(name, -1);

    /// <summary>An entry of a table.</summary>
    public static Referrer Entry(string table, long index) => new(table, index);

    /// <summary>The L2 entry of a guest cluster.</summary>
    public static Referrer L2Entry(GuestOffset guest) => new(null, guest.Value);

    /// <summary>The guest cluster, for an L2 entry.</summary>
    public GuestOffset? Guest => _structure is null ? new GuestOffset(_number) : null;

    /// <inheritdoc/>
    public override string ToString() =>
        _structure is null ? $"the L2 entry of guest offset {Guest}"
        : _number < 0 ? _structure
        : string.Create(CultureInfo.InvariantCulture, $"entry {_number} of {_structure}");
}
