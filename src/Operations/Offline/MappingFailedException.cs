using Platter.Core.Errors;

namespace Platter.Operations.Offline;

/// <summary>A comparison ended because a disk could not tell what a range is (data, zero, absent), before any of it was read.</summary>
public sealed class MappingFailedException : BlockException
{
    /// <summary>Says what the cause says.</summary>
    public MappingFailedException(BlockException cause)
        : base(cause.Kind, cause.Message, cause)
    {
    }
}
