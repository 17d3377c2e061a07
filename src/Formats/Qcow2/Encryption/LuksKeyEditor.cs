using System.Security.Cryptography;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption.Ciphers;
using Platter.Formats.Qcow2.Encryption.Hashes;

namespace Platter.Formats.Qcow2.Encryption;

// A slot becomes active in three flushed steps: key material, the slot's other fields while it says that it is inactive, and the four bytes of its state, which lie
// in one sector. It becomes inactive by its state first; only then its key material is overwritten. So after a cut every slot is wholly what it was or
// wholly what it is to be, or inactive and to be done again. An active slot that gets another password is the exception by its nature: the
// new password is in a spare slot until it is in its own, and a volume without a spare slot has seven others.

/// <summary>Adds and removes passwords of a LUKS volume, in place.</summary>
internal sealed class LuksKeyEditor
{
    private readonly Storage _storage;
    private readonly HostOffset _at;
    private readonly long _length;
    private readonly string _name;
    private LuksHeader _header;
    private CipherSpec _spec = null!;
    private LuksHash _hash = null!;

    private LuksKeyEditor(Storage storage, HostOffset at, long length, LuksHeader header)
    {
        (_storage, _at, _length, _name, _header) = (storage, at, length, storage.Name, header);
    }

    /// <summary>Does it.</summary>
    /// <param name="storage">Writable.</param>
    /// <param name="at">Host offset of the LUKS header.</param>
    /// <param name="length">Bytes of header and key material.</param>
    /// <param name="change">What to do.</param>
    /// <param name="password">The password that the image was opened with.</param>
    /// <param name="cancellationToken">Stops before anything was written.</param>
    /// <exception cref="BlockException">Refused with nothing changed; or the host could not write.</exception>
    public static async ValueTask RunAsync(
        Storage storage, HostOffset at, long length, LuksKeyChange change, ReadOnlyMemory<byte> password, CancellationToken cancellationToken)
    {
        var header = await LuksVolume.ReadHeaderAsync(storage, at, length, storage.Name, cancellationToken).ConfigureAwait(false);
        var editor = new LuksKeyEditor(storage, at, length, header);
        if (change.Activates)
        {
            await editor.AddAsync(change, password, cancellationToken).ConfigureAwait(false);
        }
        else
        {
            await editor.RemoveAsync(change, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask AddAsync(LuksKeyChange change, ReadOnlyMemory<byte> password, CancellationToken cancellationToken)
    {
        var free = Enumerable.Range(0, LuksHeader.SlotCount).Where(i => !_header.Slots[i].IsActive).ToArray();
        var slot = change.Slot ?? (free.Length > 0 ? free[0] : throw Invalid("Can't add a keyslot - all keyslots are in use"));
        var overwrites = _header.Slots[slot].IsActive;
        if (overwrites && !change.Force)
        {
            throw Invalid($"Refusing to overwrite active keyslot {slot} - please erase it first");
        }

        var found = await LuksVolume.FindKeyAsync(
            _storage, _at, _length, password, _name, long.MaxValue, cancellationToken: cancellationToken).ConfigureAwait(false);
        (_spec, _hash) = (found.Spec, found.Hash);
        try
        {
            if (!overwrites)
            {
                await ActivateAsync(slot, found.MasterKey, change, cancellationToken).ConfigureAwait(false);
                return;
            }

            if (free.Length > 0)
            {
                await ActivateAsync(free[0], found.MasterKey, change, cancellationToken).ConfigureAwait(false);
            }

            await DeactivateAsync(slot).ConfigureAwait(false);
            await ActivateAsync(slot, found.MasterKey, change, CancellationToken.None).ConfigureAwait(false);
            if (free.Length > 0)
            {
                await DeactivateAsync(free[0]).ConfigureAwait(false);
            }
        }
        finally
        {
            CryptographicOperations.ZeroMemory(found.MasterKey);
        }
    }

    private async ValueTask RemoveAsync(LuksKeyChange change, CancellationToken cancellationToken)
    {
        var active = Enumerable.Range(0, LuksHeader.SlotCount).Where(i => _header.Slots[i].IsActive).ToArray();
        if (change.Slot is { } slot && !active.Contains(slot) && !change.Force)
        {
            throw Invalid($"Given keyslot {slot} is already erased (inactive)");
        }

        var chosen = change.Slot is { } one ? [one] : active;
        if (change.OldPassword is { } password)
        {
            _spec = CipherSpec.Parse(_name, _at, _header.CipherName, _header.CipherMode, _header.KeyBytes);
            _hash = LuksHash.Find(_header.HashSpec) ?? throw new BlockException(BlockErrorKind.Unsupported, $"{_name}: the hash of the LUKS header is not supported");
            var matching = new List<int>();
            foreach (var index in chosen.Where(active.Contains))
            {
                var key = await LuksVolume.TrySlotAsync(
                    _storage, _at, _header, _spec, _hash, index, password, _name, AesEngine.Fastest, cancellationToken).ConfigureAwait(false);
                if (key is not null)
                {
                    CryptographicOperations.ZeroMemory(key);
                    matching.Add(index);
                }
            }

            if (matching.Count == 0)
            {
                throw new BlockException(
                    BlockErrorKind.WrongSecret,
                    change.Slot is { } given ? $"Given keyslot {given} doesn't contain the given old password for erase operation" : "No keyslots match given (old) password for erase operation");
            }

            chosen = [.. matching];
        }

        if (active.All(chosen.Contains) && !change.Force)
        {
            throw Invalid(change.Slot is null
                ? "All the active keyslots match the (old) password that was given and erasing them will erase all the data in the image irreversibly - refusing operation"
                : $"Attempt to erase the only active keyslot {change.Slot} which will erase all the data in the image irreversibly - refusing operation");
        }

        foreach (var index in chosen)
        {
            await DeactivateAsync(index).ConfigureAwait(false);
        }
    }

    private async ValueTask ActivateAsync(int slot, byte[] masterKey, LuksKeyChange change, CancellationToken cancellationToken)
    {
        var iterations = await Task.Run(
            () => LuksFormatter.IterationsFor(_hash, _spec.KeyBytes, change.Milliseconds, cancellationToken), cancellationToken).ConfigureAwait(false);
        var made = _header.Slots[slot] with
        {
            State = LuksKeySlot.ActiveState, Iterations = (uint)iterations, Salt = RandomNumberGenerator.GetBytes(_header.Slots[slot].Salt.Length),
        };

        // What an inactive slot says about its key material may be anything.
        made.Validate(_name, slot, _at + LuksHeader.SlotOffset(slot), (int)_header.KeyBytes, _length);
        var after = With(slot, made);
        after.Validate(_name, _at, _length);
        var material = new byte[made.MaterialBytes(masterKey.Length)];
        await Task.Run(() => LuksFormatter.EncryptKey(_spec, _hash, made, masterKey, change.NewPassword!.Value.Span, material), cancellationToken).ConfigureAwait(false);
        await _storage.WriteAsync(_at + made.KeyMaterialOffset, material, CancellationToken.None).ConfigureAwait(false);
        await _storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        await WriteHeaderAsync(With(slot, made with { State = LuksKeySlot.InactiveState })).ConfigureAwait(false);
        await WriteHeaderAsync(after).ConfigureAwait(false);
    }

    private async ValueTask DeactivateAsync(int slot)
    {
        var gone = _header.Slots[slot];
        await WriteHeaderAsync(With(slot, gone with { State = LuksKeySlot.InactiveState })).ConfigureAwait(false);
        var bytes = gone.MaterialBytes((int)_header.KeyBytes);
        if (bytes <= LuksKeySlot.MaxMaterialBytes && gone.KeyMaterialOffset >= LuksHeader.Size && gone.KeyMaterialOffset + bytes <= _length)
        {
            await _storage.WriteAsync(_at + gone.KeyMaterialOffset, RandomNumberGenerator.GetBytes((int)bytes), CancellationToken.None).ConfigureAwait(false);
            await _storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        }

        await WriteHeaderAsync(With(slot, gone with { State = LuksKeySlot.InactiveState, Iterations = 0, Salt = new byte[gone.Salt.Length] })).ConfigureAwait(false);
    }

    private LuksHeader With(int slot, LuksKeySlot value)
    {
        var slots = _header.Slots.ToArray();
        slots[slot] = value;
        return _header with { Slots = slots };
    }

    // Only the slots: what else is in the header stays as it is, byte for byte.
    private async ValueTask WriteHeaderAsync(LuksHeader header)
    {
        var bytes = new byte[LuksHeader.Size];
        _ = await _storage.ReadAsync(_at, bytes, CancellationToken.None).ConfigureAwait(false);
        for (var i = 0; i < LuksHeader.SlotCount; i++)
        {
            header.Slots[i].WriteTo(bytes.AsSpan(LuksHeader.SlotOffset(i), LuksKeySlot.Size));
        }

        await _storage.WriteAsync(_at, bytes, CancellationToken.None).ConfigureAwait(false);
        await _storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        _header = header;
    }

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);
}
