using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace Platter.Nbd.Tls;

/// <summary>A certificate's subject as text, letter by letter as QEMU compares it: "C=DE,O=Example,CN=client".</summary>
/// <remarks>Written as RFC 4514 says, but in the order of the certificate and not from its end. QEMU takes the text from GnuTLS, whose names of attributes these are;
/// others come as numbers, with their values in hexadecimal digits. QEMU 7.2 shows it when it turns somebody away.</remarks>
public static class DistinguishedNameText
{
    // Its values are of one type only.
    private const string TelephoneNumber = "2.5.4.20";

    private static readonly Dictionary<string, string> s_names = new()
    {
        ["2.5.4.3"] = "CN",
        ["2.5.4.4"] = "surName",
        ["2.5.4.5"] = "serialNumber",
        ["2.5.4.6"] = "C",
        ["2.5.4.7"] = "L",
        ["2.5.4.8"] = "ST",
        ["2.5.4.9"] = "street",
        ["2.5.4.10"] = "O",
        ["2.5.4.11"] = "OU",
        ["2.5.4.12"] = "title",
        ["2.5.4.13"] = "description",
        ["2.5.4.15"] = "businessCategory",
        ["2.5.4.17"] = "postalCode",
        [TelephoneNumber] = "telephoneNumber",
        ["2.5.4.41"] = "name",
        ["2.5.4.42"] = "givenName",
        ["2.5.4.43"] = "initials",
        ["2.5.4.44"] = "generationQualifier",
        ["2.5.4.46"] = "dnQualifier",
        ["2.5.4.65"] = "pseudonym",
        ["0.9.2342.19200300.100.1.1"] = "UID",
        ["0.9.2342.19200300.100.1.25"] = "DC",
        ["1.2.840.113549.1.9.1"] = "EMAIL",
        ["1.3.6.1.4.1.311.60.2.1.1"] = "jurisdictionOfIncorporationLocalityName",
        ["1.3.6.1.4.1.311.60.2.1.2"] = "jurisdictionOfIncorporationStateOrProvinceName",
        ["1.3.6.1.4.1.311.60.2.1.3"] = "jurisdictionOfIncorporationCountryName",
    };

    /// <summary>The text of a name.</summary>
    /// <exception cref="CryptographicException">The name is malformed.</exception>
    public static string Of(X500DistinguishedName name)
    {
        try
        {
            var parts = new List<string>();
            var sequence = new AsnReader(name.RawData, AsnEncodingRules.DER, new AsnReaderOptions { SkipSetSortOrderVerification = true }).ReadSequence();
            while (sequence.HasData)
            {
                var set = sequence.ReadSetOf();
                var part = new StringBuilder();
                while (set.HasData)
                {
                    var attribute = set.ReadSequence();
                    AppendAttribute(part.Append(part.Length > 0 ? "+" : string.Empty), attribute.ReadObjectIdentifier(), attribute);
                }

                parts.Add(part.ToString());
            }

            return string.Join(',', parts);
        }
        catch (Exception e) when (e is AsnContentException or InvalidOperationException or ArgumentException)
        {
            throw new CryptographicException("a distinguished name is malformed", e);
        }
    }

    private static void AppendAttribute(StringBuilder text, string type, AsnReader value)
    {
        var tag = value.PeekTag();
        if (s_names.TryGetValue(type, out var name) && tag.TagClass == TagClass.Universal
            && (type != TelephoneNumber || tag.TagValue == (int)UniversalTagNumber.PrintableString) && (UniversalTagNumber)tag.TagValue is
            UniversalTagNumber.UTF8String or UniversalTagNumber.PrintableString or UniversalTagNumber.IA5String or UniversalTagNumber.T61String
            or UniversalTagNumber.BMPString or UniversalTagNumber.NumericString or UniversalTagNumber.VisibleString)
        {
            AppendEscaped(text.Append(name).Append('='), value.ReadCharacterString((UniversalTagNumber)tag.TagValue));
            return;
        }

        text.Append(name ?? type).Append("=#").Append(Convert.ToHexStringLower(value.ReadEncodedValue().Span));
    }

    private static void AppendEscaped(StringBuilder text, string value)
    {
        for (var i = 0; i < value.Length; i++)
        {
            var c = value[i];
            if (c is ',' or '+' or '"' or '\\' or '<' or '>' or ';' || (i == 0 && c is (' ' or '#')) || (i == value.Length - 1 && c == ' '))
            {
                text.Append('\\');
            }

            _ = c == '\0' ? text.Append("\\00") : text.Append(c);
        }
    }
}
