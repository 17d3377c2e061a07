namespace Platter.Core.Storages;

/// <summary>What an access to a storage is for. Said by <see cref="Storage.Announce"/> before the access, for filters that inject faults.</summary>
/// <remarks>The names, in lower case with underscores, are those of QEMU's <c>BlkdebugEvent</c> (<c>qapi/block-core.json</c>); some are never announced by our formats.</remarks>
public enum StorageEvent : byte
{
    /// <summary><c>none</c>: happens once, when the filter is opened.</summary>
    None,

    /// <summary>Entries of the L1 table are written.</summary>
    L1Update,

    /// <summary>A larger L1 table gets a place.</summary>
    L1GrowAllocTable,

    /// <summary>A larger L1 table is written.</summary>
    L1GrowWriteTable,

    /// <summary>The header is to point to the larger L1 table.</summary>
    L1GrowActivateTable,

    /// <summary>An L2 table, or a piece of one, is read.</summary>
    L2Load,

    /// <summary>Entries of L2 tables are written.</summary>
    L2Update,

    /// <summary>The entry of a compressed cluster is written.</summary>
    L2UpdateCompressed,

    /// <summary>A shared L2 table is read to be copied.</summary>
    L2AllocCowRead,

    /// <summary>A new L2 table is written.</summary>
    L2AllocWrite,

    /// <summary>Guest data are read.</summary>
    ReadAio,

    /// <summary>Guest data are read from the backing file.</summary>
    ReadBackingAio,

    /// <summary>A compressed cluster is read.</summary>
    ReadCompressed,

    /// <summary>Guest data are written.</summary>
    WriteAio,

    /// <summary>A compressed cluster is written.</summary>
    WriteCompressed,

    /// <summary>Machine state is read.</summary>
    VmstateLoad,

    /// <summary>Machine state is written.</summary>
    VmstateSave,

    /// <summary>Data are read that a new cluster takes over.</summary>
    CowRead,

    /// <summary>Data that a new cluster took over are written.</summary>
    CowWrite,

    /// <summary>The refcount table is read.</summary>
    ReftableLoad,

    /// <summary>The refcount table is made larger.</summary>
    ReftableGrow,

    /// <summary>Entries of the refcount table are written.</summary>
    ReftableUpdate,

    /// <summary>A refcount block is read.</summary>
    RefblockLoad,

    /// <summary>A refcount block is written.</summary>
    RefblockUpdate,

    /// <summary>Part of a refcount block is written.</summary>
    RefblockUpdatePart,

    /// <summary>A refcount block gets a place.</summary>
    RefblockAlloc,

    /// <summary>The refcount table is to point to a new block.</summary>
    RefblockAllocHookup,

    /// <summary>A new refcount block is written.</summary>
    RefblockAllocWrite,

    /// <summary>The blocks of a larger refcount table are written.</summary>
    RefblockAllocWriteBlocks,

    /// <summary>A larger refcount table is written.</summary>
    RefblockAllocWriteTable,

    /// <summary>The header is to point to the larger refcount table.</summary>
    RefblockAllocSwitchTable,

    /// <summary>Clusters are given a place.</summary>
    ClusterAlloc,

    /// <summary>Compressed bytes are given a place.</summary>
    ClusterAllocBytes,

    /// <summary>Clusters are given up.</summary>
    ClusterFree,

    /// <summary>Changes held in memory are to be written.</summary>
    FlushToOs,

    /// <summary>Writes are made durable.</summary>
    FlushToDisk,

    /// <summary>A misaligned write reads what is before it.</summary>
    PwritevRmwHead,

    /// <summary>It has read that.</summary>
    PwritevRmwAfterHead,

    /// <summary>A misaligned write reads what is behind it.</summary>
    PwritevRmwTail,

    /// <summary>It has read that.</summary>
    PwritevRmwAfterTail,

    /// <summary>Anything is written.</summary>
    Pwritev,

    /// <summary>Zeros are written without bytes.</summary>
    PwritevZero,

    /// <summary>Something was written.</summary>
    PwritevDone,

    /// <summary>An image is emptied.</summary>
    EmptyImagePrepare,

    /// <summary>The end of the L1 table is cleared.</summary>
    L1ShrinkWriteTable,

    /// <summary>L2 tables behind the end are given up.</summary>
    L1ShrinkFreeL2Clusters,

    /// <summary>What was read from the backing chain is kept.</summary>
    CorWrite,

    /// <summary>The storage is made larger for a cluster.</summary>
    ClusterAllocSpace,
}
