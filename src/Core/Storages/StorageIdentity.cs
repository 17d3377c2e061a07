namespace Platter.Core.Storages;

/// <summary>Tells two names of one file apart from two files: device and inode on Linux, or whatever is unique on the host.</summary>
/// <param name="Volume">Device number or a hash that stands for the server.</param>
/// <param name="File">Inode number or file id.</param>
public readonly record struct StorageIdentity(ulong Volume, ulong File);
