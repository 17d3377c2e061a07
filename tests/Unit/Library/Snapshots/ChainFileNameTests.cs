using System.Text;
using Platter.Snapshots;
using Xunit;

namespace Platter.Tests.Unit.Library.Snapshots;

/// <summary>Names of the files of a chain hold the names of the snapshots.</summary>
public sealed class ChainFileNameTests
{
    [Theory]
    [InlineData("Clean install", "vm.1.Clean install.qcow2")]
    [InlineData("Überprüft 👍 (v1.2), #3 & ~", "vm.1.Überprüft 👍 (v1.2), #3 & ~.qcow2")]
    [InlineData("side/branch", "vm.1.side%2Fbranch.qcow2")]
    [InlineData("100%", "vm.1.100%25.qcow2")]
    [InlineData("%2F", "vm.1.%252F.qcow2")]
    [InlineData("12:30? \"yes\"\\no", "vm.1.12%3A30%3F %22yes%22%5Cno.qcow2")]
    [InlineData("a\nb\0c\u0085\u202e", "vm.1.a%0Ab%00c%C2%85%E2%80%AE.qcow2")]
    [InlineData("..", "vm.1..%2E.qcow2")]
    [InlineData("a.qcow2", "vm.1.a.qcow2.qcow2")]
    [InlineData(" x ", "vm.1. x%20.qcow2")]
    public void What_a_file_cannot_be_called_is_escaped_and_comes_back(string name, string file)
    {
        Assert.Equal($"/d.1/{file}", ChainFileName.Make("/d.1/vm.qcow2", 1, name));
        Assert.Equal(name, ChainFileName.SnapshotOf("/d.1/vm.qcow2", $"/d.1/{file}"));
    }

    [Theory]
    [InlineData("vm", "v1.2")]
    [InlineData("a.b.c", "x")]
    public void The_target_may_have_any_name(string top, string name) => Assert.Equal(name, ChainFileName.SnapshotOf(top, ChainFileName.Make(top, 12, name)));

    [Theory]
    [InlineData("vm.x.Name.qcow2")]
    [InlineData("vm.1.qcow2")]
    [InlineData("vm.1..qcow2")]
    [InlineData("vm2.1.Name.qcow2")]
    [InlineData("vm.1.Name.img")]
    [InlineData("vm.qcow2")]
    public void Other_files_are_no_snapshots(string file) => Assert.Null(ChainFileName.SnapshotOf("vm.qcow2", file));

    [Theory]
    [InlineData("vm.1.50%.qcow2", "50%")]
    [InlineData("vm.1.50%zz.qcow2", "50%zz")]
    public void What_is_no_escape_stays(string file, string name) => Assert.Equal(name, ChainFileName.SnapshotOf("vm.qcow2", file));

    [Fact]
    public void A_long_name_is_cut_between_characters()
    {
        var file = ChainFileName.Make("vm.qcow2", 1, new string('/', 10) + new string('ü', 300));
        Assert.InRange(Encoding.UTF8.GetByteCount(file), 240, 245);
        Assert.Matches("^/{10}ü+$", ChainFileName.SnapshotOf("vm.qcow2", file));
    }
}
