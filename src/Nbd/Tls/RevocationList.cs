using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Platter.Core.Errors;

namespace Platter.Nbd.Tls;

/// <summary>Certificates that their issuer has taken back (RFC 5280, section 5), from a file: nothing is asked over the network.</summary>
/// <remarks>.NET has no way to give one to its own verification. Every list of the file must be signed by an authority that we have, or nothing is accepted at all: a list
/// that was put there by somebody else, or that we do not understand, must not look like one that has nothing to say.</remarks>
internal sealed class RevocationList
{
    private const int MaxBytes = 16 << 20;
    private const string Label = "X509 CRL";

    private static readonly Asn1Tag s_extensions = new(TagClass.ContextSpecific, 0);

    private readonly string _path;
    private readonly byte[] _issuer;
    private readonly DateTimeOffset? _nextUpdate;
    private readonly HashSet<string> _serials = [];

    private RevocationList(string path, ReadOnlyMemory<byte> signed)
    {
        _path = path;
        var list = new AsnReader(signed, AsnEncodingRules.DER).ReadSequence();
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

        if (list.HasData && list.PeekTag() == Asn1Tag.Sequence)
        {
            var revoked = list.ReadSequence();
            while (revoked.HasData)
            {
                var entry = revoked.ReadSequence();
                _serials.Add(Convert.ToHexString(entry.ReadIntegerBytes().Span));
                ReadTime(entry);
                if (entry.HasData)
                {
                    RefuseCritical(entry.ReadSequence());
                }
            }
        }

        if (list.HasData && list.PeekTag().HasSameClassAndValue(s_extensions))
        {
            RefuseCritical(list.ReadSequence(s_extensions).ReadSequence());
        }
    }

    /// <summary>Reads the lists of a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="authoritiesPath">The authorities' file, for messages.</param>
    /// <param name="authorities">Who may have signed them.</param>
    /// <exception cref="BlockException">It cannot be read or parsed, or was not signed by any of them.</exception>
    public static IReadOnlyList<RevocationList> Load(string path, string authoritiesPath, X509Certificate2Collection authorities)
    {
        try
        {
            var text = Encoding.Latin1.GetString(CredentialFile.Read(path, MaxBytes, "list of revoked certificates"));
            var lists = new List<RevocationList>();
            for (var rest = text.AsSpan(); PemEncoding.TryFind(rest, out var fields); rest = rest[fields.Location.End..])
            {
                if (rest[fields.Label] is Label)
                {
                    var parts = new AsnReader(Convert.FromBase64String(rest[fields.Base64Data].ToString()), AsnEncodingRules.DER).ReadSequence();
                    var signed = parts.ReadEncodedValue();
                    var list = new RevocationList(path, signed);
                    var signature = new ListSignature(parts);
                    lists.Add(authorities.Any(one => one.SubjectName.RawData.AsSpan().SequenceEqual(list._issuer) && MaySign(one) && signature.IsOf(one, signed.Span))
                        ? list
                        : throw Invalid(path, $"the list of '{SafeText.Clean(list.IssuerName(), 256)}' is not signed by an authority of {authoritiesPath}"));
                }
            }

            return lists.Count > 0 ? lists : throw Invalid(path, "holds no revocation list in PEM form");
        }
        catch (Exception e) when (e is AsnContentException or FormatException or CryptographicException or InvalidOperationException)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: the revocation list cannot be parsed", e);
        }
        catch (NotSupportedException e)
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{path}: {e.Message}", e);
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

    // RFC 5280, section 6.3.3 (f).
    private static bool MaySign(X509Certificate2 authority) =>
        authority.Extensions.OfType<X509KeyUsageExtension>().All(static usage => usage.KeyUsages.HasFlag(X509KeyUsageFlags.CrlSign));

    // One that must be understood may say that the list is of some certificates only, or of another issuer's.
    private static void RefuseCritical(AsnReader extensions)
    {
        while (extensions.HasData)
        {
            var extension = extensions.ReadSequence();
            var id = extension.ReadObjectIdentifier();
            if (extension.HasData && extension.PeekTag() == Asn1Tag.Boolean && extension.ReadBoolean())
            {
                throw new NotSupportedException($"the revocation list has the critical extension {id}, which is not supported");
            }
        }
    }

    private string IssuerName()
    {
        try
        {
            return DistinguishedNameText.Of(new X500DistinguishedName(_issuer));
        }
        catch (CryptographicException)
        {
            return "a malformed name";
        }
    }

    private static bool IsTime(Asn1Tag tag) => tag == Asn1Tag.UtcTime || tag == Asn1Tag.GeneralizedTime;

    private static DateTimeOffset ReadTime(AsnReader reader) => reader.PeekTag() == Asn1Tag.UtcTime ? reader.ReadUtcTime() : reader.ReadGeneralizedTime();

    private static BlockException Invalid(string path, string problem) => new(BlockErrorKind.InvalidRequest, $"{path}: {problem}");
}
