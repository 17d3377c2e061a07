using System.Globalization;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Cli.Output;

/// <summary>Findings of a check in words: what is wrong, what the guest has there, and what a repair does about it.</summary>
internal sealed class FindingExplanation
{
    // Beyond that a list of ranges says no more than "much of the disk".
    private const int MaxRanges = 8;

    private readonly List<CheckFinding> _findings = [];
    private IReadOnlyDictionary<HostOffset, IReadOnlyList<(GuestOffset Offset, long Length)>> _users =
        new Dictionary<HostOffset, IReadOnlyList<(GuestOffset Offset, long Length)>>();

    /// <summary>Takes a finding; the checker bounds their number.</summary>
    public void Add(CheckFinding finding) => _findings.Add(finding);

    /// <summary>Looks up what the guest has at the places that findings name.</summary>
    public async ValueTask FindUsersAsync(Disk disk, CancellationToken cancellationToken)
    {
        var places = new HashSet<HostOffset>();
        foreach (var finding in _findings)
        {
            if (NeedsUsers(finding))
            {
                places.Add(finding.HostOffset!.Value);
            }
        }

        if (places.Count > 0)
        {
            _users = await disk.FindUsersAsync(places, MaxRanges, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>For people: a paragraph per finding.</summary>
    public void WriteText(TextWriter writer)
    {
        foreach (var finding in _findings)
        {
            var what = finding.Severity switch
            {
                CheckSeverity.Corruption => "Error: ", CheckSeverity.Leak => "Leak: ", CheckSeverity.Error => "Not examined: ", _ => "Note: ",
            };
            writer.Write($"{what}{FileOf(finding)}{SafeText.Clean(finding.Message)}\n");
            if (finding.Explanation is { } explanation)
            {
                writer.Write($"  Meaning: {explanation}\n");
            }

            if (finding.Severity is CheckSeverity.Corruption or CheckSeverity.Leak)
            {
                writer.Write($"  Guest:   {Affected(finding)}\n");
                writer.Write($"  Repair:  {RepairOf(finding)}\n");
            }

            writer.Write('\n');
        }
    }

    /// <summary>For programs: the member <c>findings</c>.</summary>
    public void WriteJson(JsonOutput json)
    {
        json.Name("findings");
        json.BeginArray();
        foreach (var finding in _findings)
        {
            json.BeginObject();
            json.Member("severity", finding.Severity switch
            {
                CheckSeverity.Corruption => "corruption", CheckSeverity.Leak => "leak", CheckSeverity.Error => "error", _ => "note",
            });
            if (finding.File is { } file)
            {
                json.Member("file", SafeText.Clean(file));
            }

            json.Member("message", SafeText.Clean(finding.Message));
            if (finding.HostOffset is { } at)
            {
                json.Member("host-offset", at.Value);
            }

            if (finding.Explanation is { } explanation)
            {
                json.Member("meaning", explanation);
            }

            if (finding.Severity is CheckSeverity.Corruption or CheckSeverity.Leak)
            {
                WriteRanges(json, RangesOf(finding));
                if (finding.Repair is { } repair)
                {
                    json.Member("repair", repair);
                }

                json.Member("repaired", finding.IsRepaired);
            }

            json.EndObject();
        }

        json.EndArray();
    }

    private static void WriteRanges(JsonOutput json, IReadOnlyList<(GuestOffset Offset, long Length)> ranges)
    {
        json.Name("guest-ranges");
        json.BeginArray();
        foreach (var (offset, length) in ranges)
        {
            json.BeginObject();
            json.Member("start", offset.Value);
            json.Member("length", length);
            json.EndObject();
        }

        json.EndArray();
    }

    // Nobody has what is leaked.
    private static bool NeedsUsers(CheckFinding finding) =>
        finding is { Severity: CheckSeverity.Corruption, GuestOffset: null, HostOffset: not null };

    private static string FileOf(CheckFinding finding) => finding.File is { } file ? $"{SafeText.Clean(file)}: " : string.Empty;

    private static string RepairOf(CheckFinding finding) => finding switch
    {
        { Repair: null } => "none that would not be a guess",
        { IsRepaired: true } => $"done: {finding.Repair}",
        _ => finding.Repair,
    };

    private string Affected(CheckFinding finding)
    {
        var ranges = RangesOf(finding);
        if (ranges.Count == 0)
        {
            return finding.Severity == CheckSeverity.Leak ? "nothing" : "nothing that the disk shows as it is now";
        }

        var text = string.Join(", ", ranges.Select(static range => string.Create(
            CultureInfo.InvariantCulture, $"0x{range.Offset.Value:x} to 0x{range.Offset.Value + range.Length - 1:x} ({SizeText.Format(range.Length)})")));
        return ranges.Count < MaxRanges ? text : $"{text}, and perhaps more";
    }

    private IReadOnlyList<(GuestOffset Offset, long Length)> RangesOf(CheckFinding finding) =>
        finding.GuestOffset is { } guest ? [(guest, finding.GuestLength)]
        : NeedsUsers(finding) && _users.TryGetValue(finding.HostOffset!.Value, out var found) ? found
        : [];
}
