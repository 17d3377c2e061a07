System.Console.WriteLine(Platter.Tmp.Hi);
