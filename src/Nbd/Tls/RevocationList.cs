using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Platter.Core.Errors;

namespace Platter.Nbd.Tls;

/// <summary>Certificates that their issuer has taken back (RFC 5280, section 5), from a file: nothing is asked over the network.</summary>
/// <remarks>The file is as trusted as the directory of credentials that it lies in; its signature is not verified. .NET has no way to give one to its own verification.</remarks>
internal sealed class RevocationList
{
    private const int MaxBytes = 16 << 20;
    private const string Label = "X509 CRL";

    private readonly string _path;
    private readonly byte[] _issuer;
    private readonly DateTimeOffset? _nextUpdate;
    private readonly HashSet<string> _serials = [];

    private RevocationList(string path, ReadOnlyMemory<byte> der)
    {
        _path = path;
        var list = new AsnReader(der, AsnEncodingRules.DER).ReadSequence().ReadSequence();
        if (list.PeekTag() == Asn1Tag.Integer)
        {
            list.ReadEncodedValue();
        }

        list.ReadEncodedValue();
        _issuer = list.ReadEncodedValue().ToArray();
        ReadTime(list);
        if (list.HasData && IsTime(list.PeekTag()))
        {
            _nextUpdate = ReadTime(list);
        }

        if (!list.HasData || list.PeekTag() != Asn1Tag.Sequence)
        {
            return;
        }

        var revoked = list.ReadSequence();
        while (revoked.HasData)
        {
            _serials.Add(Convert.ToHexString(revoked.ReadSequence().ReadIntegerBytes().Span));
        }
    }

    /// <summary>Reads the lists of a file.</summary>
    /// <exception cref="BlockException">It cannot be read or parsed.</exception>
    public static IReadOnlyList<RevocationList> Load(string path)
    {
        try
        {
            var text = Encoding.Latin1.GetString(CredentialFile.Read(path, MaxBytes, "list of revoked certificates"));
            var lists = new List<RevocationList>();
            for (var rest = text.AsSpan(); PemEncoding.TryFind(rest, out var fields); rest = rest[fields.Location.End..])
            {
                if (rest[fields.Label] is Label)
                {
                    lists.Add(new(path, Convert.FromBase64String(rest[fields.Base64Data].ToString())));
                }
            }

            return lists.Count > 0 ? lists : throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: holds no revocation list in PEM form");
        }
        catch (Exception e) when (e is AsnContentException or FormatException)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: the revocation list cannot be parsed", e);
        }
    }

    /// <summary>Why a certificate is no longer good; null when this list has nothing against it.</summary>
    public string? Refuses(X509Certificate2 certificate)
    {
        if (!certificate.IssuerName.RawData.AsSpan().SequenceEqual(_issuer))
        {
            return null;
        }

        // A list that is out of date says nothing about what happened since.
        return _serials.Contains(Convert.ToHexString(certificate.SerialNumberBytes.Span)) ? $"is revoked by {_path}"
            : _nextUpdate < DateTimeOffset.UtcNow ? $"cannot be judged: {_path} is out of date since {_nextUpdate:yyyy-MM-dd}"
            : null;
    }

    private static bool IsTime(Asn1Tag tag) => tag == Asn1Tag.UtcTime || tag == Asn1Tag.GeneralizedTime;

    private static DateTimeOffset ReadTime(AsnReader reader) => reader.PeekTag() == Asn1Tag.UtcTime ? reader.ReadUtcTime() : reader.ReadGeneralizedTime();
}
