using Platter.TestKit;

// Usage: MakeDemo CLEAN.raw UPDATED.raw CURRENT.raw FOLDER
// Writes FOLDER/demo.pvm from the raw content of the disk at each snapshot, and prints the path.
if (args.Length != 4)
{
    Console.Error.WriteLine("usage: MakeDemo CLEAN.raw UPDATED.raw CURRENT.raw FOLDER");
    return 2;
}

Console.WriteLine(DemoMachine.Build(SparseBytes.Load(args[0]), SparseBytes.Load(args[1]), SparseBytes.Load(args[2])).SaveTo(args[3]));
return 0;
