using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Writing;

/// <summary>Host clusters reserved for guest clusters, until the write is committed or abandoned.</summary>
/// <param name="FirstCluster">Start of the first guest cluster.</param>
/// <param name="Count">Guest clusters.</param>
/// <param name="Host">Where the first one will be; the others follow it.</param>
/// <param name="IsOwn">The clusters belonged to the entries before (they read as zeros, or parts of them were not allocated): nothing was handed out.</param>
internal sealed record Reservation(GuestOffset FirstCluster, int Count, HostOffset Host, bool IsOwn);
