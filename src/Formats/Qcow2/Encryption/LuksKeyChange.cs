using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>What is to become of a volume's key slots: a password more, or some fewer.</summary>
internal sealed record LuksKeyChange
{
    /// <summary>Give <see cref="NewPassword"/> a slot; otherwise make slots inactive.</summary>
    public required bool Activates { get; init; }

    /// <summary>The password to add.</summary>
    public ReadOnlyMemory<byte>? NewPassword { get; init; }

    /// <summary>The password whose slots are meant.</summary>
    public ReadOnlyMemory<byte>? OldPassword { get; init; }

    /// <summary>The slot that is meant, or null.</summary>
    public int? Slot { get; init; }

    /// <summary>How long trying the new password shall take.</summary>
    public ulong Milliseconds { get; init; } = LuksFormatter.DefaultIterTimeMilliseconds;

    /// <summary>Overwrite an active slot, or leave none.</summary>
    public bool Force { get; init; }

    /// <summary>Reads the options: <c>state</c>, <c>new-secret</c>, <c>old-secret</c>, <c>keyslot</c>, <c>iter-time</c>.</summary>
    /// <exception cref="BlockException">They do not go together, or a secret is missing.</exception>
    public static LuksKeyChange Parse(NodeOptions options, AmendContext context)
    {
        var activates = options["state"] switch
        {
            "active" => true,
            "inactive" => false,
            null => throw Invalid("Parameter 'state' is missing"),
            var other => throw Invalid($"Parameter 'state' does not accept value '{SafeText.Clean(other, 64)}'"),
        };
        var slot = options["keyslot"] is { } text ? long.Parse(text, CultureInfo.InvariantCulture) : (long?)null;
        if (slot is < 0 or >= LuksHeader.SlotCount)
        {
            throw Invalid($"Invalid keyslot {slot} specified, must be between 0 and {LuksHeader.SlotCount - 1}");
        }

        var result = new LuksKeyChange
        {
            Activates = activates,
            NewPassword = SecretOf("new-secret"),
            OldPassword = SecretOf("old-secret"),
            Slot = (int?)slot,
            Milliseconds = options["iter-time"] is { } time
                ? unchecked((ulong)long.Parse(time, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture))
                : LuksFormatter.DefaultIterTimeMilliseconds,
            Force = context.Force,
        };
        if (activates && result.NewPassword is null)
        {
            throw Invalid("'new-secret' is required to activate a keyslot");
        }

        if (activates && result.OldPassword is not null)
        {
            throw Invalid("'old-secret' must not be given when activating keyslots");
        }

        if (!activates && result.NewPassword is not null)
        {
            throw Invalid("'new-secret' must not be given when erasing keyslots");
        }

        if (!activates && options.Has("iter-time"))
        {
            throw Invalid("'iter-time' must not be given when erasing keyslots");
        }

        if (!activates && result.OldPassword is null && slot is null)
        {
            throw Invalid("To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be given");
        }

        return result;

        // Not one expression: a null beside a memory would become an empty one, which is a password.
        ReadOnlyMemory<byte>? SecretOf(string key)
        {
            if (options[key] is not { } id)
            {
                return null;
            }

            return context.Secrets.Get(id);
        }
    }

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);
}
