using System.Text.Json.Nodes;
using Platter.Cli.Output;
using Xunit;

namespace Platter.Tests.Unit.Cli;

public sealed class BundleTextTests
{
    private const string Data =
        """
        {"name":"disk","storages":[{},{}],"layers":[
          {"guid":"{a}","depth":0,"name":"Root","date":"2024-03-01T09:00:00Z","images":[{"actual-size":1024},{"actual-size":512}]},
          {"guid":"{b}","depth":1,"name":"Left","images":[{"file":"b.hds","error":"b.hds: is gone\u001b"}]},
          {"guid":"{c}","depth":2,"images":[{"file":"c.hds","actual-size":512,"dirty-flag":true}]},
          {"guid":"{d}","depth":1,"top":true,"opened":true,"images":[]}]}
        """;

    [Fact]
    public void States_are_indented_for_programs() => Assert.Equal(
        """
        disk name: disk
        split into: 2 parts
        States, each below the one it was made from:
            Root {a} 2024-03-01 09:00:00, 1.5 KiB
                Left {b}, 0 B
                    ! b.hds: is gone\x1b
                    state {c}, 512 B
                        ! c.hds: was not closed properly
                current state {d}, 0 B  <- this one
        Files:
            b.hds: Left
            c.hds, 512 B: state {c}

        """,
        Text(drawLines: false));

    [Fact]
    public void States_are_connected_by_lines_on_a_terminal() => Assert.Equal(
        """
        disk name: disk
        split into: 2 parts
        States, each below the one it was made from:
            Root {a} 2024-03-01 09:00:00, 1.5 KiB
            ├── Left {b}, 0 B
            │       ! b.hds: is gone\x1b
            │   └── state {c}, 512 B
            │           ! c.hds: was not closed properly
            └── current state {d}, 0 B  <- this one
        Files:
            b.hds: Left
            c.hds, 512 B: state {c}

        """,
        Text(drawLines: true));

    [Fact]
    public void A_hostile_tree_costs_one_look_at_each_state_and_is_not_shown_whole()
    {
        // Every state was looked for in all behind it once for each level: minutes.
        var layers = new JsonArray([.. Enumerable.Range(0, 100_000).Select(i => (JsonNode)new JsonObject { ["guid"] = $"{i}", ["depth"] = i })]);
        var writer = new StringWriter();
        BundleText.Write(writer, new JsonObject { ["layers"] = layers }, layers, drawLines: true);
        Assert.EndsWith("\n    and 99000 more, with --output=json\n", writer.ToString());
    }

    private static string Text(bool drawLines)
    {
        var data = JsonNode.Parse(Data)!.AsObject();
        var writer = new StringWriter();
        BundleText.Write(writer, data, data["layers"]!.AsArray(), drawLines);
        return writer.ToString();
    }
}
