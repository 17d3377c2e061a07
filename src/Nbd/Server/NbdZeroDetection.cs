namespace Platter.Nbd.Server;

/// <summary>What a server does about writes that contain nothing but zeros.</summary>
public enum NbdZeroDetection
{
    /// <summary>They are written like any others.</summary>
    Off,

    /// <summary>They become zeros that take no transfer, with the host's space kept.</summary>
    On,

    /// <summary>They become zeros, and the host's space may be given up.</summary>
    Unmap,
}
