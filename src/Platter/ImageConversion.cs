using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Host.Files;
using Platter.Operations.Copy;
using Platter.Operations.Offline;

namespace Platter;

/// <summary>Makes an image of a format with structures of its own from a disk, or fills one that is there.</summary>
/// <remarks>Until it is whole, a new image says that it is an unfinished copy, and stays when the copy is interrupted. What is in a Parallels image cannot say so; its name does, as with a raw file,
/// also while it takes the place of a file that was there. One that neither says (qcow2 of version 2, a device) does not stay.</remarks>
internal sealed class ImageConversion
{
    private readonly BlockNode _source;
    private readonly string _path;
    private readonly DiskCreateOptions _create;
    private readonly NodeOptions _named;
    private readonly DiskConvertOptions _options;
    private readonly IProgress<CopyProgress>? _progress;
    private readonly IReadOnlyList<BitmapInfo> _bitmaps;
    private readonly NodeOptions? _export;
    private string _file;
    private bool _saysUnfinished;

    private ImageConversion(BlockNode source, string path, DiskCreateOptions create, DiskConvertOptions options, IProgress<CopyProgress>? progress)
    {
        (_source, _path, _file, _create, _options, _progress) = (source, path, path, create, options, progress);
        _named = create.ToNamed();
        _export = ExportConversion.ExportOf(path);

        // Judged before anything is made.
        _bitmaps = options.Bitmaps ? BitmapCopy.Select(source, options.SkipBrokenBitmaps, options.Warn) : [];
    }

    public static Task RunAsync(
        BlockNode source, string path, DiskCreateOptions create, DiskConvertOptions options, IProgress<CopyProgress>? progress,
        CancellationToken cancellationToken) => new ImageConversion(source, path, create, options, progress).RunAsync(cancellationToken);

    private async Task RunAsync(CancellationToken cancellationToken)
    {
        var dataFile = _named["data_file"];
        if (_options.Resume && _export is not null)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{_path}: only a copy into a local file can be resumed");
        }

        await TargetGuard.RefusePartOfSourceAsync(_source, _path).ConfigureAwait(false);
        if (dataFile is not null)
        {
            await TargetGuard.RefusePartOfSourceAsync(_source, dataFile).ConfigureAwait(false);
        }

        var hasBacking = !string.IsNullOrEmpty(_named["backing_file"]);
        if (_options.UseExistingTarget)
        {
            await FillAsync(_options.Copy, isNew: false, resumes: false, cancellationToken).ConfigureAwait(false);
            return;
        }

        if (IsSaidByName)
        {
            _file = UnfinishedFile.NameOf(_path);
            await TargetGuard.RefusePartOfSourceAsync(_source, _file).ConfigureAwait(false);
        }

        if (_options.Resume && await CanResumeAsync(cancellationToken).ConfigureAwait(false))
        {
            await ResumeAsync(hasBacking, cancellationToken).ConfigureAwait(false);
            return;
        }

        // Making an image removes what it could not finish by itself.
        List<string> created = [];
        var finished = false;
        try
        {
            var creation = await DiskCreation.PrepareAsync(_path, _source.VirtualSize, _create with { Unfinished = true }, cancellationToken).ConfigureAwait(false);
            creation.Check();
            if (IsSaidByName && File.Exists(_path))
            {
                _file = await UnfinishedFile.TakeFromAsync(_path).ConfigureAwait(false);
                created = _file == _path ? [] : [_file];
            }

            string?[] files = _file == _path ? [_path, dataFile] : [_file];
            var ours = files.OfType<string>().Where(file => IsBundle || _file != _path || (!Path.Exists(file) && (_export is null || file != _path))).ToList();
            if (_export is not null)
            {
                await RefuseExportOfSourceAsync(_export, cancellationToken).ConfigureAwait(false);
            }

            await creation.RunAsync(_file, cancellationToken).ConfigureAwait(false);
            created = ours;
            await FillAsync(
                _options.Copy with { TargetIsZero = !hasBacking, SharedDepth = hasBacking ? 1 : 0 }, isNew: true, resumes: false, cancellationToken).ConfigureAwait(false);
            finished = true;
        }
        catch (Exception e)
        {
            _saysUnfinished &= RawConversion.IsWorthResuming(e);
            throw;
        }
        finally
        {
            if (_saysUnfinished)
            {
                // In an export it cannot be resumed; it says what it is, and the same command replaces it.
                if (_export is null)
                {
                    _options.OnUnfinished(_file);
                }
            }
            else if (!finished)
            {
                // Half a copy looks like a whole one.
                foreach (var file in created)
                {
                    if (Directory.Exists(file))
                    {
                        Directory.Delete(file, recursive: true);
                    }
                    else
                    {
                        File.Delete(file!);
                    }
                }
            }
        }
    }

    // Before the new image replaces what is in it.
    private async ValueTask RefuseExportOfSourceAsync(NodeOptions export, CancellationToken cancellationToken)
    {
        var storage = await ExportConversion.OpenAsync(export, cancellationToken).ConfigureAwait(false);
        await using var closing = storage.ConfigureAwait(false);
        TargetGuard.RefuseExportOfSource(_source, storage);
    }

    private async ValueTask ResumeAsync(bool hasBacking, CancellationToken cancellationToken)
    {
        try
        {
            await FillAsync(
                _options.Copy with { TargetIsZero = false, SharedDepth = hasBacking ? 1 : 0 }, isNew: true, resumes: true, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            if (_saysUnfinished)
            {
                _options.OnUnfinished(_file);
            }
        }
    }

    private async ValueTask FillAsync(CopyOptions copy, bool isNew, bool resumes, CancellationToken cancellationToken)
    {
        var open = new DiskOpenOptions
        {
            Writable = true,
            Format = _create.Format,
            Secrets = _create.Secrets,
            NbdCredentials = _create.NbdCredentials,
            Password = _create.Password,
            CompressionLevel = _options.CompressionLevel,
            AllowUnfinished = isNew,
        };
        await CopyAsync(open, copy, isNew, resumes, cancellationToken).ConfigureAwait(false);
        if (_options.Verify)
        {
            await ConversionCheck.RunAsync(_source, _file, Image(), open with { Writable = false, AllowUnfinished = false }, cancellationToken).ConfigureAwait(false);
        }

        if (_file != _path)
        {
            UnfinishedFile.Finish(_path);
        }
    }

    private async ValueTask CopyAsync(DiskOpenOptions open, CopyOptions copy, bool isNew, bool resumes, CancellationToken cancellationToken)
    {
        var target = await Disk.OpenAsync(Image(), open, cancellationToken).ConfigureAwait(false);
        await using var closing = target.ConfigureAwait(false);
        if (target.Node is ImageNode image)
        {
            // A bundle is a directory, never an export.
            TargetGuard.RefuseExportOfSource(_source, image.Driver.Storage);
        }

        if (target.Size < _source.VirtualSize || (resumes && target.Size - _source.VirtualSize >= Core.Units.Sizes.SectorBytes))
        {
            throw new BlockException(
                BlockErrorKind.NoSpace,
                resumes
                    ? $"{_path}: is a copy of another disk: it has {target.Size} bytes, the source {_source.VirtualSize}"
                    : $"{_path}: Output file is smaller than input file: it has {target.Size} bytes, {_source.VirtualSize} are needed");
        }

        if (resumes && target.Node.Snapshots.Count > 0)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{_path}: was to be a copy with snapshots, which cannot go on; the same command again, with --snapshots and without --resume, replaces it");
        }

        var filling = new ImageFilling(_source, target.Node, _bitmaps);
        var isSaidByName = _file != _path;
        var isWhole = false;
        try
        {
            copy = isSaidByName ? copy with { FlushEveryBytes = ImageFilling.FlushEveryBytes } : copy;
            await filling.RunAsync(copy, _options.Compress, isNew, resumes, _progress, cancellationToken).ConfigureAwait(false);
            isWhole = true;
        }
        finally
        {
            _saysUnfinished = isSaidByName ? !isWhole : filling.SaysUnfinished;
        }
    }

    private bool IsBundle => KnownFormats.Registry.FindBundle(_create.Format) is not null;

    private NodeOptions Image()
    {
        var image = new NodeOptions { ["driver"] = _create.Format };
        image.SetChild("file", DiskName.Parse(_file));
        if (_named["encrypt.key-secret"] is { } secret)
        {
            image["encrypt.key-secret"] = secret;
        }

        return image;
    }

    // A file of this format that is unfinished has another name, whatever is in it.
    private bool IsSaidByName => _create.Format == "parallels" && _export is null;

    // Whether there is something to go on with. An image that opens as it is has been finished, or is another one.
    private async ValueTask<bool> CanResumeAsync(CancellationToken cancellationToken)
    {
        if (IsSaidByName && Path.Exists(_path))
        {
            throw UnfinishedFile.Finished(_path);
        }

        var bundle = KnownFormats.Registry.FindBundle(_create.Format);
        if (bundle is null ? !File.Exists(_file) : !Directory.Exists(_path))
        {
            return false;
        }

        if (bundle?.CanResume(FileDirectory.Open(_path)) == true)
        {
            return true;
        }

        Disk disk;
        try
        {
            disk = await Disk.OpenAsync(Image(), new DiskOpenOptions { Format = _create.Format, MetadataOnly = true }, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.Unsupported)
        {
            return bundle is null;
        }
        catch (BlockException e) when (bundle is not null || (IsSaidByName && e.Kind is BlockErrorKind.WrongFormat or BlockErrorKind.CorruptImage))
        {
            // It was interrupted before it was an image. Whether a directory can be used is judged when a bundle is made in it.
            return false;
        }

        await using var closing = disk.ConfigureAwait(false);
        return IsSaidByName ? true : throw new BlockException(BlockErrorKind.InvalidRequest, $"{_path}: is there already, and is not an unfinished copy; nothing else can be resumed");
    }
}
