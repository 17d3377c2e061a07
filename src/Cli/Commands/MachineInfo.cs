using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Cli.Commands;

/// <summary><c>info</c> of a machine with several disks: each as it is told of alone. One that cannot be opened does not hide the others.</summary>
internal sealed class MachineInfo(Session session, ImageArguments images, string machine, IReadOnlyList<string> disks)
{
    private const int SomeFailed = 1;

    /// <summary>Writes all of them.</summary>
    /// <returns>The exit code.</returns>
    public async ValueTask<int> WriteAsync(bool asJson)
    {
        var told = new List<(string Disk, ImageInfo? Info, string? Error)>();
        foreach (var disk in disks)
        {
            try
            {
                told.Add((disk, await InfoOfAsync(disk).ConfigureAwait(false), null));
            }
            catch (BlockException e)
            {
                told.Add((disk, null, e.Message));
            }
        }

        if (asJson)
        {
            WriteJson(told);
        }
        else
        {
            WriteText(told);
        }

        session.Out.Flush();
        foreach (var (_, _, error) in told.Where(disk => disk.Error is not null))
        {
            session.Complain(error!);
        }

        return told.Any(disk => disk.Error is not null || BundleText.IsBroken(disk.Info!)) ? SomeFailed : 0;
    }

    private async ValueTask<ImageInfo> InfoOfAsync(string disk)
    {
        var opened = await images.OpenAsync(machine, options => options with { MetadataOnly = true, BundleDisk = disk }).ConfigureAwait(false);
        await using var closing = opened.ConfigureAwait(false);
        return await opened.GetInfoAsync().ConfigureAwait(false);
    }

    private void WriteText(List<(string Disk, ImageInfo? Info, string? Error)> told)
    {
        session.Out.Write($"machine: {SafeText.Clean(machine)}\ndisks: {told.Count}\n");
        foreach (var (disk, info, _) in told)
        {
            session.Out.Write($"\ndisk: {SafeText.Clean(disk, 256)}\n");
            if (info is not null)
            {
                InfoText.Write(session.Out, info, session.OutputIsTerminal);
            }
            else
            {
                session.Out.Write("    ! cannot be opened\n");
            }
        }
    }

    private void WriteJson(List<(string Disk, ImageInfo? Info, string? Error)> told)
    {
        var json = new JsonOutput(session.Out);
        json.BeginObject();
        json.Member("filename", machine);
        json.Name("disks");
        json.BeginArray();
        foreach (var (disk, info, error) in told)
        {
            if (info is not null)
            {
                InfoJson.Write(json, info, disk);
            }
            else
            {
                json.BeginObject();
                json.Member("disk", disk);
                json.Member("error", error!);
                json.EndObject();
            }
        }

        json.EndArray();
        json.EndObject();
        json.Finish();
    }
}
