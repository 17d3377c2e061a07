namespace Platter.TestKit;

/// <summary>The names in a directory on their way to a state.</summary>
internal sealed class CutEntries(string path, IReadOnlyDictionary<string, SimulatedFile> entries)
{
    private readonly Dictionary<string, SimulatedFile> _entries = new(entries, StringComparer.Ordinal);

    public string Path => path;

    public IReadOnlyDictionary<string, SimulatedFile> Entries => _entries;

    public CutEntries Clone() => new(path, _entries);

    public void Apply(SimulatedWrite write)
    {
        foreach (var (name, file) in write.Entries ?? [])
        {
            if (file is null)
            {
                _entries.Remove(name);
            }
            else
            {
                _entries[name] = file;
            }
        }
    }
}
