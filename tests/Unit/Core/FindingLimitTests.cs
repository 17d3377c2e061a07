using Platter.Core.Images;
using Xunit;

namespace Platter.Tests.Unit.Core;

public sealed class FindingLimitTests
{
    [Theory]
    [InlineData(0, 0)]
    [InlineData(FindingLimit.Max, 0)]
    [InlineData(FindingLimit.Max + 1, 1)]
    [InlineData(3_000_000, 3_000_000 - FindingLimit.Max)]
    public void What_is_not_passed_on_is_counted_in_one_last_line(int count, int more)
    {
        var told = new List<CheckFinding>();
        var limit = new FindingLimit(told.Add);
        var finding = new CheckFinding(CheckSeverity.Leak, "leak");
        for (var i = 0; i < count; i++)
        {
            if (limit.IsReached && i % 2 == 0)
            {
                limit.Skip();
            }
            else
            {
                limit.Report(finding);
            }
        }

        limit.Finish();
        Assert.Equal(Math.Min(count, FindingLimit.Max) + (more > 0 ? 1 : 0), told.Count);
        Assert.Equal(more > 0 ? $"... and {more} more findings" : null, told.Find(f => f.Severity == CheckSeverity.Note)?.Message);
    }
}
