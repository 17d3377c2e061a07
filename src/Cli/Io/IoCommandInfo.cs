namespace Platter.Cli.Io;

/// <summary>A command of an io session: its names, its words, what help says.</summary>
/// <param name="Name">The name.</param>
/// <param name="Alias">A short one, or empty.</param>
/// <param name="Letters">Its options as getopt has them: a colon behind those with an argument.</param>
/// <param name="Least">Fewest words behind the name.</param>
/// <param name="Most">Most of them, or -1.</param>
/// <param name="Form">How it is written, without the name.</param>
/// <param name="Summary">What it does.</param>
/// <param name="NeedsDisk">Whether a disk must be open.</param>
/// <param name="More">More about it, line by line; empty for none.</param>
internal sealed record IoCommandInfo(
    string Name, string Alias, string Letters, int Least, int Most, string Form, string Summary, bool NeedsDisk = true, string More = "")
{
    private const string Report = " -C  report for programs: bytes, requests, time, bytes per second, requests per second\n -q  no report\n";

    private const string Pattern = " -P  the byte to write, instead of 0xcd\n";

    /// <summary>All of them, in the order of help.</summary>
    public static IReadOnlyList<IoCommandInfo> All { get; } =
    [
        new("abort", "", "", 0, 0, "", "ends the program at once, as a crash would", NeedsDisk: false),
        new("aio_flush", "", "", 0, 0, "", "waits for all requests that run in the background"),
        new("aio_read", "", "CP:iqv", 2, -1, "[-Ciqv] [-P pattern] off len [len..]", "reads in the background", More:
            " Its outcome is printed when it has ended, at aio_flush at the latest, and does not change the exit code.\n"
            + " -P  the byte that all the data must be\n -i  no request, only a note that there was an invalid one\n -v  show the data\n" + Report),
        new("aio_write", "", "CfiP:quz", 2, -1, "[-Cfiquz] [-P pattern] off len [len..]", "writes in the background", More:
            " Its outcome is printed when it has ended, at aio_flush at the latest, and does not change the exit code.\n"
            + Pattern + " -f  durable when it has ended (FUA)\n -i  no request, only a note that there was an invalid one\n -z  zeros, without sending them\n"
            + " -u  with -z: space may be given up\n" + Report),
        new("alloc", "", "", 1, 2, "offset [count]", "tells how much of a range the image itself has"),
        new("break", "", "", 2, 2, "event tag", "makes the next request of an event wait (blkdebug)"),
        new("close", "c", "", 0, 0, "", "closes the disk"),
        new("discard", "d", "Cq", 2, -1, "[-Cq] off len", "says that a range is not needed any more", More: Report),
        new("flush", "f", "", 0, 0, "", "makes everything written durable"),
        new("help", "?", "", 0, 1, "[command]", "tells about the commands, or about one", NeedsDisk: false),
        new("info", "i", "", 0, 0, "", "tells about the image"),
        new("length", "l", "", 0, 0, "", "tells the size of the disk"),
        new("map", "", "", 0, 0, "", "lists what the image itself has and what not"),
        new("open", "o", "Crsnkd:t:i:o:U", 1, -1, "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]", "opens a disk", NeedsDisk: false, More:
            " -r  for reading only\n -s  writes go to a temporary overlay\n -C  what is read from the backing chain is kept in the image\n"
            + " -U  ignore image locks\n -n  short for -t none\n -k, -i  accepted\n -t  cache mode: writethrough, which is the default, and directsync make every write durable\n"
            + " -d  ignore (or off): discards do nothing; unmap (or on)\n -o  options of the image: driver=qcow2,…\n"),
        new("quit", "q", "", 0, -1, "", "ends the program", NeedsDisk: false),
        new("read", "r", "abCl:pP:qs:v", 2, -1, "[-abCqv] [-P pattern [-s off] [-l len]] off len", "reads", More:
            " -b  from the VM state instead of the disk\n -P  the byte that all the data must be; of a part of them with\n -s  its start and\n -l  its length\n"
            + " -v  show the data\n -p  accepted\n" + Report),
        new("readv", "", "CP:qv", 2, -1, "[-Cqv] [-P pattern] off len [len..]", "reads the sum of some lengths", More:
            " -P  the byte that all the data must be\n -v  show the data\n" + Report),
        new("remove_break", "", "", 1, 1, "tag", "forgets a breakpoint, and lets go what waits there (blkdebug)"),
        new("reopen", "", "c:o:rw", 0, -1, "[(-r|-w)] [-c cache] [-o options]", "opens the same disk in another way", More:
            " -r  for reading only\n -w  for reading and writing\n -c  cache mode\n -o  options of the image\n"),
        new("resume", "", "", 1, 1, "tag", "lets a request go on (blkdebug)"),
        new("sigraise", "", "", 1, 1, "signal", "sends this process a signal, by its number", NeedsDisk: false),
        new("sleep", "", "", 1, 1, "", "waits so many milliseconds", NeedsDisk: false),
        new("truncate", "t", "m:", 1, 3, "[-m prealloc_mode] off", "changes the size of the disk"),
        new("wait_break", "", "", 1, 1, "tag", "waits until a request waits at a breakpoint (blkdebug)"),
        new("write", "w", "bcCfnpP:qs:uz", 2, -1, "[-bcCfnquz] [-P pattern | -s source_file] off len", "writes", More:
            " -b  to the VM state instead of the disk\n -c  compressed, by whole clusters\n -f  durable when it has ended (FUA)\n" + Pattern
            + " -s  the bytes of a file, again and again\n -z  zeros, without sending them\n -u  with -z: space may be given up\n"
            + " -n  with -z: fails where zeros would have to be sent\n -p  accepted\n" + Report),
        new("writev", "", "CfqP:", 2, -1, "[-Cfq] [-P pattern] off len [len..]", "writes the sum of some lengths", More:
            Pattern + " -f  durable when it has ended (FUA)\n" + Report),
    ];

    /// <summary>The command of a name or alias, or null.</summary>
    public static IoCommandInfo? Find(string name)
    {
        foreach (var command in All)
        {
            if (command.Name == name || (command.Alias == name && name.Length > 0))
            {
                return command;
            }
        }

        return null;
    }

    /// <summary>One line: name, form, what it does.</summary>
    public string Line => $"{Name} {Form}{(Form.Length > 0 ? " " : string.Empty)}-- {Summary}\n";
}
