using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Platter.Nbd.Tls;

/// <summary>The signature of a revocation list: algorithm and bytes, as they stand behind what is signed (RFC 5280, section 5.1.1).</summary>
internal sealed class ListSignature
{
    private const string Pss = "1.2.840.113549.1.1.10";

    private readonly string _algorithm;
    private readonly HashAlgorithmName _hash;
    private readonly byte[] _value;

    /// <summary>Reads it.</summary>
    /// <param name="parts">The list behind what is signed.</param>
    /// <exception cref="NotSupportedException">The algorithm is too weak, or none that .NET has.</exception>
    public ListSignature(AsnReader parts)
    {
        var algorithm = parts.ReadSequence();
        _algorithm = algorithm.ReadObjectIdentifier();
        _hash = _algorithm switch
        {
            "1.2.840.113549.1.1.11" or "1.2.840.10045.4.3.2" => HashAlgorithmName.SHA256,
            "1.2.840.113549.1.1.12" or "1.2.840.10045.4.3.3" => HashAlgorithmName.SHA384,
            "1.2.840.113549.1.1.13" or "1.2.840.10045.4.3.4" => HashAlgorithmName.SHA512,
            Pss => HashOf(algorithm),
            _ => throw Unsupported(_algorithm),
        };
        _value = parts.ReadBitString(out _);
    }

    /// <summary>Whether an authority has signed.</summary>
    public bool IsOf(X509Certificate2 authority, ReadOnlySpan<byte> signed)
    {
        using var rsa = authority.GetRSAPublicKey();
        using var curve = authority.GetECDsaPublicKey();
        return rsa is not null ? !_algorithm.StartsWith("1.2.840.10045.", StringComparison.Ordinal)
                && rsa.VerifyData(signed, _value, _hash, _algorithm == Pss ? RSASignaturePadding.Pss : RSASignaturePadding.Pkcs1)
            : curve is not null && _algorithm.StartsWith("1.2.840.10045.", StringComparison.Ordinal)
                && curve.VerifyData(signed, _value, _hash, DSASignatureFormat.Rfc3279DerSequence);
    }

    // RFC 4055, section 3.1; SHA-1 if nothing is said.
    private static HashAlgorithmName HashOf(AsnReader algorithm)
    {
        var tag = new Asn1Tag(TagClass.ContextSpecific, 0);
        var parameters = algorithm.HasData ? algorithm.ReadSequence() : null;
        var hash = parameters is { HasData: true } && parameters.PeekTag().HasSameClassAndValue(tag) ? parameters.ReadSequence(tag).ReadSequence().ReadObjectIdentifier() : "SHA-1";
        return hash switch
        {
            "2.16.840.1.101.3.4.2.1" => HashAlgorithmName.SHA256,
            "2.16.840.1.101.3.4.2.2" => HashAlgorithmName.SHA384,
            "2.16.840.1.101.3.4.2.3" => HashAlgorithmName.SHA512,
            _ => throw Unsupported($"{Pss} with {hash}"),
        };
    }

    private static NotSupportedException Unsupported(string algorithm) => new($"the revocation list is signed by the algorithm {algorithm}, which is not supported");
}
